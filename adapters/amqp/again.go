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

// headerAgain is of a message that may be in a queue already.
const headerAgain = "motif-again"

// pauses are those before what was nacked is sent again. Queues that go are gone within
// 10 ms, and within 80 in a cluster.
var pauses = []time.Duration{15 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond, 240 * time.Millisecond, 480 * time.Millisecond}

// inVain is how long it is remembered that this did not help: then a nack is final.
const inVain = time.Minute

// doubts are of a driver, about nacks.
type doubts struct {
	slots chan struct{} // a place for each publish that is sent again and has no caller that waits
	kept  atomic.Int64  // bytes of messages that are kept for that
	again atomic.Uint64 // sent again to exchanges

	mu     sync.RWMutex
	trials map[place]*trial
	vain   map[place]time.Time // until when
	proofs map[place]*proof
}

// mostKept bounds the bytes of asynchronous publishes that are kept in case of a nack. What is
// beyond that is not sent again.
const mostKept = 64 << 20

func newDoubts(places int) *doubts {
	return &doubts{
		slots: make(chan struct{}, places), trials: make(map[place]*trial),
		vain: make(map[place]time.Time), proofs: make(map[place]*proof),
	}
}

// trial is one publish that is sent again until it is taken. Others to the same place that
// were nacked wait for it, so that a full queue costs one of them its time, and other
// queues of its exchange the copies of one.
type trial struct {
	done chan struct{}
	vain bool
}

// place is what a publish is nacked by: an exchange, or a queue, which has a name only if there
// is no exchange.
type place struct{ exchange, queue string }

func (o *outgoing) place() place {
	if o.exchange == "" {
		return place{queue: o.key}
	}
	return place{exchange: o.exchange}
}

// copies reports whether o may go into several queues.
func (o *outgoing) copies() bool { return o.steps == 0 && o.p.To.Kind.IsExchange() }

// ordered reports whether o must not be sent again when others to the same place may be under
// way with it: they would overtake it. To queues of an exchange it goes as a copy.
func (o *outgoing) ordered() bool { return !o.copies() && o.p.To.Kind != adapters.Reply }

// join begins a trial, or returns the one that goes on, or nil if there was one in vain.
func (x *doubts) join(at place) (t *trial, mine bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if until, ok := x.vain[at]; ok {
		if time.Now().Before(until) {
			return nil, false
		}
		delete(x.vain, at)
	}
	if t = x.trials[at]; t != nil {
		return t, false
	}
	t = &trial{done: make(chan struct{})}
	x.trials[at] = t
	return t, true
}

func (x *doubts) leave(at place, t *trial, vain bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.trials, at)
	if t.vain = vain; vain {
		if len(x.vain) >= maxKnown {
			clear(x.vain)
		}
		x.vain[at] = time.Now().Add(inVain)
	}
	close(t.done)
}

// isDoubtful reports whether o, which was nacked, is to be sent again. A queue that is known to
// be bounded is full. Before 4.1 an exchange nacks only for queues that stay.
func (d *Driver) isDoubtful(o *outgoing) bool {
	if o.copies() {
		conn := d.publisher.current()
		return conn != nil && conn.version.since(nacksLeaving)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.specs[o.key]
	return o.exchange != "" || q.MaxLength == 0 || q.Overflow != adapters.RejectPublish
}

// insist sends o again, which was nacked.
func (d *Driver) insist(ctx context.Context, o *outgoing) (err error) {
	at := o.place()
	o.again = o.copies()
	for sent := 0; sent < len(pauses); {
		t, mine := d.nackRetries.join(at)
		switch {
		case t == nil:
			return adapters.ErrNacked
		case mine:
			for err = adapters.ErrNacked; sent < len(pauses) && errors.Is(err, adapters.ErrNacked) && sleep(ctx, pauses[sent]); sent++ {
				err = d.resend(ctx, o)
			}
			d.nackRetries.leave(at, t, ctx.Err() == nil && errors.Is(err, adapters.ErrNacked))
		default:
			select {
			case <-t.done:
			case <-ctx.Done():
				return interrupted(o, ctx.Err())
			}
			if t.vain {
				return adapters.ErrNacked
			}
			err = d.resend(ctx, o)
			sent++
		}
		switch {
		case err == nil, errors.Is(err, adapters.ErrUnroutable), errors.Is(err, adapters.ErrUnconfirmed):
			return err
		case !errors.Is(err, adapters.ErrNacked):
			return interrupted(o, err)
		case ctx.Err() != nil:
			return interrupted(o, ctx.Err())
		}
	}
	return adapters.ErrNacked
}

func (d *Driver) resend(ctx context.Context, o *outgoing) error {
	if o.again {
		d.nackRetries.again.Add(1)
	}
	return d.once(ctx, o)
}

// interrupted is the error of a message that was nacked and could not be sent again.
func interrupted(o *outgoing, cause error) error {
	why := adapters.ErrNacked
	if o.copies() {
		why = adapters.ErrUnconfirmed
	}
	return fmt.Errorf("amqp: %w: refused, and not sent again: %w", why, cause)
}

// keep makes o independent of the caller's message, and returns what is to be called when
// it is no longer needed, or nil if too much is kept.
func (d *Driver) keep(o *outgoing) (release func()) {
	m, size := o.message, int64(len(o.message.Payload))
	if d.nackRetries.kept.Add(size) > mostKept {
		d.nackRetries.kept.Add(-size)
		return nil
	}
	o.message = &message.Message{UUID: m.UUID, Payload: slices.Clone(m.Payload), Metadata: maps.Clone(m.Metadata)}
	return func() { d.nackRetries.kept.Add(-size) }
}

// sendInsisting is send for a publish that nobody waits for.
func (d *Driver) sendInsisting(ctx context.Context, o *outgoing, done func(error)) error {
	release := func() {}
	if o.copies() && d.isDoubtful(o) || o.p.To.Kind == adapters.Reply && !isDirect(o.key) {
		if release = d.keep(o); release == nil {
			return d.send(ctx, o, done)
		}
		answer := done
		done = func(err error) {
			if !errors.Is(err, adapters.ErrNacked) || !d.insistLater(o, answer, release) {
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

// insistLater is insist in a goroutine of its own, if there is a place for one more.
func (d *Driver) insistLater(o *outgoing, done func(error), release func()) bool {
	select {
	case d.nackRetries.slots <- struct{}{}:
	default:
		return false
	}
	ok := d.spawn(func() {
		err := d.insist(d.ctx, o)
		release()
		done(err)
		<-d.nackRetries.slots
	})
	if !ok {
		<-d.nackRetries.slots
	}
	return ok
}
