package amqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// A nack says that a queue did not take the message. There are three reasons, which RabbitMQ does
// not tell apart:
//
//   - The queue is full. That lasts, and the publisher has to know.
//   - The queue is going away: for a moment RabbitMQ (4.3) routes to a queue whose process has
//     ended, such as the private queue of a subscriber that leaves. For an exchange that is of no
//     importance; a publish to such a queue has to fail because there is no queue. Seldom it
//     closes the publisher's channel instead: see errQueueGone.
//   - The queue is new: RabbitMQ knows a quorum queue before it works, for at most 70 ms in what
//     was measured, and tells other processes of it than the one that declares it.
//
// So such a message is sent again a few times within a second. If it was for a single queue, that
// makes no second copy. An exchange may have put it into other queues: then the copy says that it
// may have been delivered before, and [Driver.Resent] counts it.

// headerResent marks a message that may be in a queue already.
const headerResent = "motif-again"

// errQueueGone is wrapped by the errors of all that was pending on a channel that the broker closed
// because a queue went while a message was on its way there. That message is in no queue; which one
// it was is not said, and others may be stored.
var errQueueGone = errors.New("a queue went in that moment")

// isQueueGone reports whether the broker closed a channel for that. RabbitMQ 4.3 does, which looks
// a queue up after it has routed to it.
func isQueueGone(e *amqp091.Error) bool {
	return e.Code == amqp091.ResourceError && strings.Contains(e.Reason, "failed to deliver message: {not_found,")
}

// nackRetryDelays are the waits before a nacked message is sent again. Queues that go away are gone
// within 10 ms, or 80 ms in a cluster.
var nackRetryDelays = []time.Duration{15 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond, 240 * time.Millisecond, 480 * time.Millisecond}

// futileFor is how long a target is remembered for which sending again did not help: its nacks are
// final.
const futileFor = time.Minute

// nackRetries is what a driver knows of nacks.
type nackRetries struct {
	slots     chan struct{} // a place for each publish that is sent again in the background
	keptBytes atomic.Int64  // bytes of messages that are kept to be sent again
	resent    atomic.Uint64 // how often messages were sent again that may be in a queue

	mu     sync.RWMutex
	rounds map[target]*retryRound
	futile map[target]time.Time // until when nacks are final
	firsts map[target]*firstPublish
}

// maxKeptBytes bounds the payloads of asynchronous publishes that are kept in case of a nack.
// Beyond that a nacked message is not sent again.
const maxKeptBytes = 64 << 20

func newNackRetries(places int) *nackRetries {
	return &nackRetries{
		slots: make(chan struct{}, places), rounds: make(map[target]*retryRound),
		futile: make(map[target]time.Time), firsts: make(map[target]*firstPublish),
	}
}

// retryRound is one publish that is sent again until a queue takes it. Other nacked messages to the
// same target wait for it, so that a full queue costs only one of them its time, and the other
// queues of an exchange get only the copies of one.
type retryRound struct {
	done   chan struct{}
	futile bool
}

// target is what nacks a publish: an exchange, or a queue if there is no exchange.
type target struct{ exchange, queue string }

func (o *outgoing) target() target {
	if o.exchange == "" {
		return target{queue: o.key}
	}
	return target{exchange: o.exchange}
}

// reachesSeveral reports whether o may go into several queues.
func (o *outgoing) reachesSeveral() bool { return o.delayUnits == 0 && o.p.To.Kind.IsExchange() }

// keepsOrder reports whether o must not be sent again while others to the same target may be
// pending: they would overtake it. Copies for the queues of an exchange have no order to keep.
func (o *outgoing) keepsOrder() bool { return !o.reachesSeveral() && o.p.To.Kind != adapters.Reply }

// joinRound begins a round, or returns the current one, or nil if a recent one was futile.
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

// queueFailed reports whether a publish failed with err because of a queue that is full, new or
// going away.
func queueFailed(err error) bool {
	return errors.Is(err, adapters.ErrNacked) || errors.Is(err, errQueueGone)
}

// retries reports whether o, which failed with err, is to be sent again. A queue known to be
// bounded is full. Before 4.1 an exchange nacks only for queues that stay.
func (d *Driver) retries(o *outgoing, err error) bool {
	switch {
	case !errors.Is(err, adapters.ErrNacked):
		return errors.Is(err, errQueueGone)
	case o.reachesSeveral():
		conn := d.publisher.current()
		return conn != nil && conn.version.atLeast(nacksLeaving)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.specs[o.key]
	return o.exchange != "" || q.MaxLength == 0 || q.Overflow != adapters.RejectPublish
}

// sendAgain sends o, for which [queueFailed] reports true, again.
func (d *Driver) sendAgain(ctx context.Context, o *outgoing, failed error) error {
	o.learn(failed)
	err := d.retryNacked(ctx, o)
	if errors.Is(err, adapters.ErrNacked) && o.doubt != nil {
		return o.doubt
	}
	return err
}

// learn notes from the result of a publish of o whether o may be in a queue when it is sent again.
func (o *outgoing) learn(err error) {
	if errors.Is(err, errQueueGone) {
		o.doubt = err
	}
	o.resent = o.doubt != nil || o.reachesSeveral()
}

func (d *Driver) retryNacked(ctx context.Context, o *outgoing) (err error) {
	at := o.target()
	for sent := 0; sent < len(nackRetryDelays); {
		t, mine := d.nackRetries.joinRound(at)
		switch {
		case t == nil:
			return adapters.ErrNacked
		case mine:
			for err = adapters.ErrNacked; sent < len(nackRetryDelays) && queueFailed(err) && sleep(ctx, nackRetryDelays[sent]); sent++ {
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
		case err == nil, errors.Is(err, adapters.ErrUnroutable), errors.Is(err, adapters.ErrUnconfirmed) && !queueFailed(err):
			return err
		case !queueFailed(err):
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
	err := d.publishConfirmed(ctx, o)
	o.learn(err)
	return err
}

// retryInterrupted returns the error of a message that could not be sent again.
func retryInterrupted(o *outgoing, cause error) error {
	why := adapters.ErrNacked
	switch {
	case o.doubt != nil:
		return fmt.Errorf("%w, and not sent again: %w", o.doubt, cause)
	case o.resent:
		why = adapters.ErrUnconfirmed
	}
	return fmt.Errorf("amqp: %w: refused, and not sent again: %w", why, cause)
}

// keepCopy makes o independent of the caller's message. It returns what to call when o is no longer
// needed, or nil if too much is kept.
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
	if o.reachesSeveral() && d.retries(o, adapters.ErrNacked) || o.p.To.Kind == adapters.Reply && !isDirectReplyTo(o.key) {
		if release = d.keepCopy(o); release == nil {
			return d.send(ctx, o, done)
		}
		answer := done
		done = func(err error) {
			if !queueFailed(err) || !d.sendAgainAsync(o, err, answer, release) {
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

// sendAgainAsync is sendAgain in a goroutine of its own. It returns false if there is no place for
// one more.
func (d *Driver) sendAgainAsync(o *outgoing, failed error, done func(error), release func()) bool {
	select {
	case d.nackRetries.slots <- struct{}{}:
	default:
		return false
	}
	ok := d.tasks.Go(func() {
		err := d.sendAgain(d.ctx, o, failed)
		release()
		done(err)
		<-d.nackRetries.slots
	})
	if !ok {
		<-d.nackRetries.slots
	}
	return ok
}
