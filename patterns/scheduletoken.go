package patterns

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/motifmq/motif/adapters"
)

// token says how far a schedule has come.
type token struct {
	Done  time.Time `json:"done"`            // what was due until then has been sent, or left out
	Fresh bool      `json:"fresh,omitempty"` // nothing has been: Done is when a process began
}

// knowsMore reports whether t is to be believed rather than o. A token of a process that has just
// begun knows nothing of what was missed before. Of two of those, the first that began misses
// nothing.
func (t token) knowsMore(o token) bool {
	switch {
	case t.Fresh != o.Fresh:
		return o.Fresh
	case t.Fresh:
		return t.Done.Before(o.Done)
	}
	return t.Done.After(o.Done)
}

const (
	maxTokens = 100 // that are taken at a time

	// maxAhead is how far the clock of another process may be ahead. Past that it is not believed,
	// or a schedule would rest until then.
	maxAhead = time.Hour

	// maxReturns is how often a token is put back: a policy of the broker may count that.
	maxReturns = 10
)

// take takes all tokens there are. With an error it may have taken some.
func (s *Scheduled) take(ctx context.Context) (held []adapters.Delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	for len(held) < maxTokens {
		d, err := s.getter.Get(ctx, s.source)
		if errors.Is(err, adapters.ErrEmpty) {
			return held, nil
		}
		if err != nil {
			return held, err
		}
		held = append(held, d)
	}
	return held, nil
}

// best returns the token that knows most, of those that were taken and what the process knows
// itself, and whether that is the only one that was taken, and may be put back.
func (s *Scheduled) best(held []adapters.Delivery, now time.Time) (best token, isOnly bool) {
	tokens := s.tokens(held)
	for _, t := range append(tokens[:len(tokens):len(tokens)], s.known) {
		switch {
		case t.Done.After(now.Add(maxAhead)):
			s.log.Error("motif: the clock of some process with this schedule is wrong", "ahead", t.Done.Sub(now))
		case best.Done.IsZero() || t.knowsMore(best):
			best = t
		}
	}
	if best.Done.IsZero() {
		best = token{Done: now, Fresh: true}
	}
	isOnly = len(held) == 1 && len(tokens) == 1 && tokens[0] == best
	return best, isOnly && held[0].Returned <= maxReturns
}

// tokens decodes what was taken. What is no token is left out, and goes.
func (s *Scheduled) tokens(held []adapters.Delivery) (tokens []token) {
	for _, d := range held {
		var t token
		if err := json.Unmarshal(d.Message.Payload, &t); err != nil || t.Done.IsZero() {
			s.log.Error("motif: something in the queue of a schedule is not its own", "id", d.Message.UUID)
			continue
		}
		t.Done = t.Done.UTC()
		tokens = append(tokens, t)
	}
	return tokens
}

// put sends a token.
func (s *Scheduled) put(ctx context.Context, t token) error {
	payload, err := json.Marshal(t)
	if err != nil {
		return err
	}
	p := adapters.Publication{To: s.source.Endpoint, Mandatory: s.bus.features.Ability.Has(adapters.CanReturn)}
	p.ContentType = JSON{}.ContentType()
	return singleError(s.bus.driver.Publish(ctx, p, s.bus.message("", payload, nil)))
}

func settleAll(ctx context.Context, held []adapters.Delivery, o adapters.Outcome) (err error) {
	for _, d := range held {
		err = errors.Join(err, d.Settle(ctx, o))
	}
	return err
}
