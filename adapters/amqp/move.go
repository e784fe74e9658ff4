package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// move moves messages from one queue to the end of another, in order, until nothing has come to the
// first one for a while. Each is acknowledged once the other queue has it. If caughtUp is not nil,
// it is called the first time that none waits, or that more come to a work queue than are moved.
// (All that is one consumer: one that ends before gives back what it has, and that may lose its
// place.) It returns how many were moved after that, or else in all.
func (m *migration) move(ctx context.Context, from, to string, quiet time.Duration, caughtUp func() error) (int, error) {
	if err := m.awaitUnused(ctx, from); err != nil {
		return 0, err // a process that was killed here may still have the first messages
	}
	s := passive(from)
	s.Prefetch = movePrefetch
	sub, err := m.d.Subscribe(ctx, s)
	if err != nil {
		return 0, err
	}
	// What is on its way here goes back in order: of what is given back one by one, a quorum queue
	// may lose it.
	stop := sub.(adapters.Returner).StopAndReturn
	defer stop() //nolint:errcheck // what is in hand was settled
	t := &transfer{m: m, to: adapters.Endpoint{Kind: adapters.Queue, Name: to}, caughtUp: caughtUp}
	ctx, t.stop = context.WithCancelCause(ctx)
	defer t.stop(nil)
	err = t.run(ctx, sub, from, quiet)
	t.underway.Wait()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	n := int(t.moved.Load())
	if err == nil {
		err = stop()
	}
	if err != nil {
		return n, fmt.Errorf("after %d messages from queue %q to queue %q: %w", n, from, to, err)
	}
	return n, m.awaitUnused(ctx, from)
}

// maxMoves is how often a queue is moved that turns out not to be empty.
const maxMoves = 10

// drain is move until the first queue is empty.
func (m *migration) drain(ctx context.Context, from, to string, quiet time.Duration, caughtUp func() error) (moved int, err error) {
	for range maxMoves {
		n, err := m.move(ctx, from, to, quiet, caughtUp)
		moved += n
		if err == nil {
			err = m.d.checkEmpty(ctx, from)
		}
		if !errors.Is(err, errNotEmpty) {
			return moved, err
		}
		caughtUp = nil
	}
	return moved, fmt.Errorf("queue %q: %w", from, errNotEmpty)
}

// transfer is one move.
type transfer struct {
	m        *migration
	to       adapters.Endpoint
	stop     context.CancelCauseFunc
	underway sync.WaitGroup
	moved    atomic.Int64

	looked time.Time // when the first queue had so many messages
	depth  int

	caughtUp func() error
}

// gainTime is how long a move has to gain on those who publish.
const gainTime = 3 * time.Second

// shortestQuiet is how long Receive is given at least before the queue is looked at.
const shortestQuiet = 20 * time.Millisecond

func (t *transfer) run(ctx context.Context, sub adapters.Subscription, from string, quiet time.Duration) error {
	var emptySince time.Time
	for looked := time.Now(); ; {
		wait, cancel := context.WithTimeout(ctx, max(quiet, shortestQuiet))
		d, err := sub.Receive(wait)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // what is on its way is no newcomer
			if late, lateErr := sub.(adapters.TryReceiver).TryReceive(ctx); !errors.Is(lateErr, adapters.ErrEmpty) {
				d, err = late, lateErr
			}
		}
		switch {
		case err == nil:
			if err := t.forward(ctx, d); err != nil {
				return err
			}
			if !emptySince.IsZero() && time.Since(emptySince) > 5*quiet {
				return fmt.Errorf("%w: queue %q still gets messages by its name: whoever sends them has to use Migrating", adapters.ErrPrecondition, from)
			}
			if wait := max(quiet, shortestQuiet); time.Since(looked) < wait && (t.caughtUp == nil || time.Since(looked) < shortestQuiet) {
				continue
			}
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		looked = time.Now()
		q, inspectErr := t.m.d.Inspect(ctx, from)
		if inspectErr != nil {
			return inspectErr
		}
		exchange := t.m.source.Kind.IsExchange() // whose publishers cannot be held back
		switch {
		case t.caughtUp != nil && (q.Ready == 0 || !exchange && !t.gains(q.Ready)):
			if err := t.caughtUp(); err != nil {
				return err
			}
			t.caughtUp = nil
			t.moved.Store(0)
		case q.Ready > 0:
		case err != nil:
			return nil
		case emptySince.IsZero():
			if err := t.forwardSent(ctx, sub); err != nil {
				return err
			}
			emptySince = time.Now()
		}
	}
}

// forwardSent forwards what the broker has sent, which may take a busy machine longer than anybody
// who publishes by name is given.
func (t *transfer) forwardSent(ctx context.Context, sub adapters.Subscription) error {
	for range movePrefetch {
		d, err := sub.(adapters.TryReceiver).TryReceive(ctx)
		if errors.Is(err, adapters.ErrEmpty) {
			return nil
		}
		if err == nil {
			err = t.forward(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gains reports whether messages are moved faster than they come: after each gainTime there have to
// be fewer.
func (t *transfer) gains(depth int) bool {
	if time.Since(t.looked) < gainTime {
		return true
	}
	shorter := t.looked.IsZero() || depth < t.depth
	t.looked, t.depth = time.Now(), depth
	return shorter
}

// forward publishes a message to the other queue, and settles it once that is confirmed or refused.
func (t *transfer) forward(ctx context.Context, d adapters.Delivery) error {
	p := adapters.Publication{To: t.to, Key: d.Key, Properties: d.Properties, Mandatory: true}
	t.underway.Add(1)
	err := t.m.d.PublishAsync(ctx, p, d.Message, func(err error) {
		defer t.underway.Done()
		t.settle(ctx, d, err)
	})
	if err != nil {
		t.underway.Done()
		t.settle(ctx, d, err)
	}
	return err
}

func (t *transfer) settle(ctx context.Context, d adapters.Delivery, err error) {
	outcome := adapters.Ack
	if err != nil {
		outcome = adapters.Requeue
	}
	if settleErr := d.Settle(context.WithoutCancel(ctx), outcome); err == nil {
		err = settleErr
	}
	if err != nil {
		t.stop(err)
		return
	}
	t.moved.Add(1)
}

// awaitUnused waits until the broker has seen that nobody consumes any more.
func (m *migration) awaitUnused(ctx context.Context, queue string) error {
	for deadline := time.Now().Add(lockPatience); ; {
		err := m.checkUnused(ctx, queue)
		if !errors.Is(err, adapters.ErrPrecondition) || time.Now().After(deadline) || !sleep(ctx, detourPause) {
			return err
		}
	}
}

// checkUnused returns an error if somebody consumes.
func (m *migration) checkUnused(ctx context.Context, queue string) error {
	q, err := m.d.Inspect(ctx, queue)
	if err == nil {
		err = adapters.IfUnused.Unmet(q)
	}
	return err
}
