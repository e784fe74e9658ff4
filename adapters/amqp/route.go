package amqp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// route is where a publication goes in RabbitMQ's terms.
type route struct {
	p        adapters.Publication
	exchange string
	key      string
	steps    uint64 // of a delay, in units; 0 = none
	level    uint8  // the priority that the broker is told
}

// routeOf validates p and finds out where it goes.
func (c *Config) routeOf(p *adapters.Publication) (route, error) {
	if err := p.Validate(); err != nil {
		return route{}, fmt.Errorf("amqp: publish: %w", err)
	}
	r := route{p: *p, key: p.To.Name}
	if p.To.Kind.IsExchange() {
		r.exchange, r.key = p.To.Name, p.Key
	}
	if p.To.Kind == adapters.Reply {
		r.answer()
	}
	switch {
	case p.To.Kind == adapters.Reply && !c.answerable(p.To.Name):
		return r, invalid("publish to the reply address %q: it is neither a direct reply address nor a server-named queue", clip(p.To.Name))
	case p.ReplyTo == directReply:
		return r, invalid("the reply address %s stands for one of this connection, which has none", directReply)
	case milliseconds(p.TTL) > maxExpiry:
		return r, invalid("TTL %v, at most %v is possible", p.TTL, maxExpiry*time.Millisecond)
	case p.Attempt > math.MaxInt32:
		return r, invalid("attempt %d", p.Attempt)
	case p.Delay > 0:
		return r, r.delay()
	}
	return r, nil
}

// answer finds out where a reply address leads: directly to a client, to a queue, or to an exchange
// where it is written as exchange/key.
func (r *route) answer() {
	if isDirect(r.key) {
		r.p.TTL = 0           // there is no queue to get old in, and the broker takes longer over a message with one
		r.p.Mandatory = false // before 4.2 it would be returned, though it was delivered
	} else if exchange, key, ok := strings.Cut(r.key, "/"); ok {
		r.exchange, r.key = exchange, key
	}
}

// arrange makes what a route leads through exist, once in a session.
func (s *session) arrange(ctx context.Context, r *route) error {
	if !r.p.To.Kind.IsExchange() && r.steps == 0 {
		return nil
	}
	if s.arranged(r) {
		return nil
	}
	return s.arrangeSlowly(ctx, *r) // a copy, which may go to the heap
}

func (s *session) arranged(r *route) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known[r.passes()]
	return known && r.steps < 1<<s.rungs && (r.steps == 0 || time.Since(s.built) < ladderLasts)
}

const laddered adapters.Kind = 0x80 // of what is reached by the ladder

// passes says what a route leads through, for the session to remember that it
// exists.
func (r *route) passes() adapters.Endpoint {
	e := r.p.To
	if r.steps > 0 {
		e.Kind |= laddered
	}
	return e
}

func (s *session) arrangeSlowly(ctx context.Context, r route) error {
	rungs, err, withheld := 0, error(nil), error(nil)
	if r.steps > 0 {
		s.renewLadder(ctx)
		if s.arranged(&r) {
			return nil
		}
	}
	if r.p.To.Kind.IsExchange() {
		err = s.briefly(ctx, func(ch *amqp091.Channel) error {
			if r.p.To.Kind == adapters.Exchange { // its type is not said, nor looked at
				return ch.ExchangeDeclarePassive(r.p.To.Name, amqp091.ExchangeDirect, true, false, false, false, nil)
			}
			return s.declareExchange(ch, r.p.To)
		})
		if err != nil && s.alive() && errors.Is(sentinel(err), ErrAccess) {
			withheld, err = err, nil // it may be there: who may write to it need not be allowed to declare it
		}
	}
	if err == nil && r.steps > 0 {
		rungs, err = s.buildLadder(ctx, &r)
		if err != nil && s.alive() && errors.Is(sentinel(err), ErrAccess) && s.checkLadder(ctx, &r) == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.p.To.Kind.IsExchange() {
		if delete(s.withheld, r.p.To.Name); withheld != nil {
			s.withheld[r.p.To.Name] = withheld
		}
	}
	if len(s.known) >= maxKnown {
		clear(s.known)
		clear(s.withheld)
	}
	s.known[r.passes()] = struct{}{}
	s.rungs = max(s.rungs, rungs)
	return nil
}
