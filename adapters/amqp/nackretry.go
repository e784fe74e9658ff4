package amqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// A nack says that a queue did not take the message. There are three reasons, which
// RabbitMQ does not tell apart:
//
//   - The queue is full. That lasts, and its publisher is to know.
//   - It is going: RabbitMQ (4.3) routes for a moment to a queue whose process has ended, as
//     the private one of a subscriber that leaves. Of an exchange that is nobody's
//     business, and of a queue it is to be said that there is none.
//   - It is new: a quorum queue is known before it works, which is 70 ms at most in what was
//     measured, and to processes other than the one that declares it.
//
// So what is nacked is sent again, a few times within a second. Where it was for a single queue
// that makes no second copy. An exchange may have put it into other queues: there the
// message says of itself that it may have been delivered before, and Health counts it.

// headerResent is of a message that may be in a queue already.
const headerResent = "motif-again"

// nackRetryDelays are those before what was nacked is sent again. Queues that go are gone within
// 10 ms, and within 80 in a cluster.
var nackRetryDelays = []time.Duration{15 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond, 240 * time.Millisecond, 480 * time.Millisecond}

// futileFor is how long it is remembered that this did not help: then a nack is final.
const futileFor = time.Minute

// nackRetries are of a driver, about nacks.
type nackRetries struct {
	slots     chan struct{} // a place for each publish that is sent again and has no caller that waits
	keptBytes atomic.Int64  // bytes of messages that are kept for that
	resent    atomic.Uint64 // sent again to exchanges

	mu     sync.RWMutex
	rounds map[target]*retryRound
	futile map[target]time.Time // until when
	firsts map[target]*firstPublish
}

// maxKeptBytes bounds the bytes of asynchronous publishes that are kept in case of a nack. What is
// beyond that is not sent again.
const maxKeptBytes = 64 << 20

func newNackRetries(places int) *nackRetries {
	return &nackRetries{
		slots: make(chan struct{}, places), rounds: make(map[target]*retryRound),
		futile: make(map[target]time.Time), firsts: make(map[target]*firstPublish),
	}
}

// retryRound is one publish that is sent again until it is taken. Others to the same place that
// were nacked wait for it, so that a full queue costs one of them its time, and other
// queues of its exchange the copies of one.
type retryRound struct {
	done   chan struct{}
	futile bool
}

// target is what a publish is nacked by: an exchange, or a queue, which has a name only if there
// is no exchange.
type target struct{ exchange, queue string }

func (o *outgoing) target() target {
	if o.exchange == "" {
		return target{queue: o.key}
	}
	return target{exchange: o.exchange}
}

// reachesSeveral reports whether o may go into several queues.
func (o *outgoing) reachesSeveral() bool { return o.delayUnits == 0 && o.p.To.Kind.IsExchange() }

// keepsOrder reports whether o must not be sent again when others to the same place may be under
// way with it: they would overtake it. To queues of an exchange it goes as a copy.
func (o *outgoing) keepsOrder() bool { return !o.reachesSeveral() && o.p.To.Kind != adapters.Reply }

// joinRound begins a trial, or returns the one that goes on, or nil if there was one in vain.
func (retries *nackRetries) joinRound(at target) (t *retryRound, mine bool) {
	retries.mu.Lock()
	defer retries.mu.Unlock()
	if until, ok := retries.futile[at]; ok {
		if time.Now().Before(until) {
			return nil, false
		}
		delete(retries.futile, at)
	}
	if t = retries.rounds[at]; t != nil {
		return t, false
	}
	t = &retryRound{done: make(chan struct{})}
	retries.rounds[at] = t
	return t, true
}

func (retries *nackRetries) endRound(at target, t *retryRound, vain bool) {
	retries.mu.Lock()
	defer retries.mu.Unlock()
	delete(retries.rounds, at)
	if t.futile = vain; vain {
		if len(retries.futile) >= maxKnown {
			clear(retries.futile)
		}
		retries.futile[at] = time.Now().Add(futileFor)
	}
	close(t.done)
}

// retriesNack reports whether o, which was nacked, is to be sent again. A queue that is known to
// be bounded is full. Before 4.1 an exchange nacks only for queues that stay.
func (d *Driver) retriesNack(o *outgoing) bool {
	if o.reachesSeveral() {
		conn := d.publisher.current()
		return conn != nil && conn.version.atLeast(nacksLeaving)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.specs[o.key]
	return o.exchange != "" || q.MaxLength == 0 || q.Overflow != adapters.RejectPublish
}

// retryNacked sends o again, which was nacked.
func (d *Driver) retryNacked(ctx context.Context, o *outgoing) (err error) {
	at := o.target()
	o.resent = o.reachesSeveral()
	for sent := 0; sent < len(nackRetryDelays); {
		t, mine := d.nackRetries.joinRound(at)
		switch {
		case t == nil:
			return adapters.ErrNacked
		case mine:
			for err = adapters.ErrNacked; sent < len(nackRetryDelays) && errors.Is(err, adapters.ErrNacked) && sleep(ctx, nackRetryDelays[sent]); sent++ {
				err = d.resend(ctx, o)
			}
			d.nackRetries.endRound(at, t, ctx.Err() == nil && errors.Is(err, adapters.ErrNacked))
		default:
			select {
			case <-t.done:
			case <-ctx.Done():
				return retryInterrupted(o, ctx.Err())
			}
			if t.futile {
				return adapters.ErrNacked
			}
			err = d.resend(ctx, o)
			sent++
		}
		switch {
		case err == nil, errors.Is(err, adapters.ErrUnroutable), errors.Is(err, adapters.ErrUnconfirmed):
			return err
		case !errors.Is(err, adapters.ErrNacked):
			return retryInterrupted(o, err)
		case ctx.Err() != nil:
			return retryInterrupted(o, ctx.Err())
		}
	}
	return adapters.ErrNacked
}

func (d *Driver) resend(ctx context.Context, o *outgoing) error {
	if o.resent {
		d.nackRetries.resent.Add(1)
	}
	return d.publishConfirmed(ctx, o)
}

// retryInterrupted is the error of a message that was nacked and could not be sent again.
func retryInterrupted(o *outgoing, cause error) error {
	why := adapters.ErrNacked
	if o.reachesSeveral() {
		why = adapters.ErrUnconfirmed
	}
	return fmt.Errorf("amqp: %w: refused, and not sent again: %w", why, cause)
}

// keepCopy makes o independent of the caller's message, and returns what is to be called when
// it is no longer needed, or nil if too much is kept.
func (d *Driver) keepCopy(o *outgoing) (release func()) {
	m, size := o.message, int64(len(o.message.Payload))
	if d.nackRetries.keptBytes.Add(size) > maxKeptBytes {
		d.nackRetries.keptBytes.Add(-size)
		return nil
	}
	o.message = &message.Message{UUID: m.UUID, Payload: slices.Clone(m.Payload), Metadata: maps.Clone(m.Metadata)}
	return func() { d.nackRetries.keptBytes.Add(-size) }
}

// sendRetryingNacks is send for a publish that nobody waits for.
func (d *Driver) sendRetryingNacks(ctx context.Context, o *outgoing, done func(error)) error {
	release := func() {}
	if o.reachesSeveral() && d.retriesNack(o) || o.p.To.Kind == adapters.Reply && !isDirectReplyTo(o.key) {
		if release = d.keepCopy(o); release == nil {
			return d.send(ctx, o, done)
		}
		answer := done
		done = func(err error) {
			if !errors.Is(err, adapters.ErrNacked) || !d.retryNackedAsync(o, answer, release) {
				release()
				answer(err)
			}
		}
	}
	err := d.send(ctx, o, done)
	if err != nil {
		release()
	}
	return err
}

// retryNackedAsync is insist in a goroutine of its own, if there is a place for one more.
func (d *Driver) retryNackedAsync(o *outgoing, done func(error), release func()) bool {
	select {
	case d.nackRetries.slots <- struct{}{}:
	default:
		return false
	}
	ok := d.tasks.Go(func() {
		err := d.retryNacked(d.ctx, o)
		release()
		done(err)
		<-d.nackRetries.slots
	})
	if !ok {
		<-d.nackRetries.slots
	}
	return ok
}
