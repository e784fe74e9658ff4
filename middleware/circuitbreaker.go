package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// ErrCircuitOpen is why a message goes back to its queue while a [CircuitBreaker] is open.
var ErrCircuitOpen = errors.New("motif: circuit breaker open")

// BreakerConfig says when a [CircuitBreaker] opens, and for how long.
type BreakerConfig struct {
	Failures int           // in a row, that open it; 0 = 5
	Cooldown time.Duration // how long it is open before each probe; 0 = 30 s

	// IsFailure reports whether an error of the handler says that what it depends on is down.
	// Without it every error does, except those of [patterns.Reject], [patterns.Skip] and
	// [patterns.Requeue], and those of payloads that do not decode. Panics are failures, too.
	IsFailure func(error) bool
}

// CircuitBreaker pauses a subscription whose handler fails several times in a row, as it does while
// something that it depends on is down: nothing is fetched, and messages wait at the broker with
// their attempts unspent. After the cooldown one message is fetched and handled as a probe. If that
// works the subscription goes on, if not it is paused for another cooldown.
//
// The message that opens the breaker, as a failed probe or as the last of several failures, goes
// back to its place with no attempt counted, and so do others in hand that fail. One that fails as
// a probe twice in a row goes to the end of its queue, so that the next probe is another message:
// it may itself be what is wrong. A panic counts as an attempt, as always. With
// [patterns.AckOnReceive] the subscription is paused as well, but what fails is dropped.
//
// Each subscription needs one of its own: an option that is given to several pauses all of them.
func CircuitBreaker(c BreakerConfig) patterns.FailureOption {
	c.Failures, c.Cooldown = cmp.Or(c.Failures, 5), cmp.Or(c.Cooldown, 30*time.Second)
	if c.IsFailure == nil {
		c.IsFailure = isFailure
	}
	b := &breaker{BreakerConfig: c, changed: make(chan struct{})}
	return patterns.Options(patterns.WithGate(b), patterns.WithMiddleware(b.middleware), patterns.OnSettle(b.settled))
}

func isFailure(err error) bool {
	for _, decided := range []error{patterns.ErrRejected, patterns.ErrSkipped, patterns.ErrRequeued, patterns.ErrCodec} {
		if errors.Is(err, decided) {
			return false
		}
	}
	return true
}

// breaker is closed while until is zero, open before it, and half open, for a probe, after it.
type breaker struct {
	BreakerConfig

	mu       sync.Mutex
	failures int // in a row, while closed
	until    time.Time
	probing  bool          // a probe is in hand, until it is settled
	probe    string        // its id, once it is handled
	failed   string        // the id of the last probe, if that failed
	changed  chan struct{} // closed, and another made, when those who wait are to look again
}

// Validate reports what is wrong with the configuration; [patterns.WithGate] asks.
func (b *breaker) Validate(int) error {
	if b.Failures < 1 || b.Cooldown < 0 {
		return fmt.Errorf("%w: CircuitBreaker with Failures %d and Cooldown %v", adapters.ErrInvalid, b.Failures, b.Cooldown)
	}
	return nil
}

// Wait implements [patterns.Gate].
func (b *breaker) Wait(ctx context.Context) (ahead bool, err error) {
	for {
		b.mu.Lock()
		closed, probing, changed, wait := b.until.IsZero(), b.probing, b.changed, time.Until(b.until)
		b.mu.Unlock()
		switch {
		case closed:
			return true, nil
		case wait <= 0 && !probing:
			return false, nil
		case probing:
			wait = time.Hour // until something changes
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return false, err
		}
	}
}

// Fetched implements [patterns.Gate].
func (b *breaker) Fetched() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = !b.until.IsZero()
}

// settled lets another probe begin, also if the last one came to nothing, as one that never reached
// its handler. What was in hand before the probe is none.
func (b *breaker) settled(_ context.Context, s patterns.Settlement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.probing && (b.probe == "" || b.probe == s.ID) {
		b.probing, b.probe = false, ""
		b.change()
	}
}

func (b *breaker) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *breaker) middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) (produced []*message.Message, err error) {
		if b.begin(m.UUID) { // it was fetched before that, or came back at once
			return nil, patterns.RequeueAfter(0, ErrCircuitOpen)
		}
		returned := false
		defer func() {
			if !returned {
				b.fail(m.UUID) // by a panic, which goes on
			}
		}()
		produced, err = next(m)
		returned = true
		switch {
		case errors.Is(err, ErrDuplicate): // nobody asked what the handler depends on
		case err == nil, errors.Is(err, patterns.ErrRejected) && !errors.Is(err, patterns.ErrCodec), errors.Is(err, patterns.ErrSkipped):
			b.succeeded()
		case interrupted(m.Context()):
		case b.IsFailure(err):
			switch open, again := b.fail(m.UUID); {
			case again:
				err = patterns.RequeueLast(fmt.Errorf("%w: %w", ErrCircuitOpen, err))
			case open:
				err = patterns.RequeueAfter(0, fmt.Errorf("%w: %w", ErrCircuitOpen, err))
			}
		}
		return produced, err
	}
}

// interrupted reports whether ctx has ended by a shutdown or with its session, and not because
// something took too long.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return cause != nil && !errors.Is(cause, context.DeadlineExceeded)
}

// begin is called with the message that is about to be handled, and reports whether it must not be.
func (b *breaker) begin(id string) (open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.until.IsZero() && time.Now().Before(b.until) {
		return true
	}
	if b.probing && b.probe == "" {
		b.probe = id
	}
	return false
}

// succeeded closes the breaker if it is half open.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.until.IsZero() && time.Now().Before(b.until) {
		return // it was begun before
	}
	b.failures, b.failed = 0, ""
	if !b.until.IsZero() {
		b.until = time.Time{}
		b.change()
	}
}

// fail counts the failure of a message. It reports whether the breaker is open for it, and whether
// this was a probe, and the one before as well.
func (b *breaker) fail(id string) (open, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.until.IsZero() && b.failures < b.Failures {
		return false, false
	}
	if b.probing && b.probe == id {
		again, b.failed = b.failed == id, id
	}
	if now := time.Now(); !now.Before(b.until) {
		b.until, b.failures = now.Add(b.Cooldown), 0
		b.change()
	}
	return true, again
}
