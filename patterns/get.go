package patterns

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Message is one message that the caller took from a queue, with [WorkQueue.Get], TryGet or
// Waiting, and holds until one of its methods settles it, or the bus is closed: then it is back in
// the queue. The first that settles counts, later ones do nothing. A method that fails because the
// session was lost in the meantime returns ErrStaleDelivery; the message is delivered again.
type Message[T any] struct {
	Value T
	Delivery

	queue   *WorkQueue[T]
	d       adapters.Delivery
	settled atomic.Bool
}

// Ack says that the message is dealt with.
func (m *Message[T]) Ack(ctx context.Context) error {
	return m.settleOnce("acknowledge", func() error { return m.d.Settle(ctx, adapters.Ack) })
}

// Requeue puts the message back to its place in the queue, before all that nobody has taken. Of
// several that are given back the first one is first (RabbitMQ's quorum queues), or the one that
// was before (classic ones): give them back in the order in which they were taken, and they keep
// it. [WorkQueue.Waiting] does so.
func (m *Message[T]) Requeue(ctx context.Context) error {
	return m.settleOnce("requeue", func() error { return m.d.Settle(ctx, adapters.Requeue) })
}

// Reject sends the message to the dead letters, with the reason, or drops it
// where there are none.
func (m *Message[T]) Reject(ctx context.Context, reason error) error {
	return m.settleOnce("reject", func() error { return m.queue.reject(ctx, &m.d, reason) })
}

// settleOnce lets one settle the message: a Reject that came second would make a
// dead letter of what is done. One that fails may be tried again.
func (m *Message[T]) settleOnce(verb string, settle func() error) error {
	if m.settled.Swap(true) {
		return nil
	}
	err := settle()
	if err != nil {
		m.settled.Store(false)
	}
	return m.queue.opError(verb+" a message from", err)
}

func (q *WorkQueue[T]) reject(ctx context.Context, d *adapters.Delivery, reason error) error {
	if reason == nil {
		reason = errors.New("rejected")
	}
	if errors.Is(context.Cause(d.Message.Context()), adapters.ErrSessionLost) {
		return adapters.ErrStaleDelivery // it is delivered again, and must be no dead letter
	}
	if q.deadLetter == "" {
		err := d.Settle(ctx, adapters.Reject)
		if err == nil {
			q.bus.counters.dropped.Add(1)
		}
		return err
	}
	outcome := adapters.Ack
	if err := q.bus.sendDeadLetter(ctx, d, q.source.Name, q.deadLetter, time.Minute, reason); err != nil {
		if q.source.Queue.DeadLetter == "" || !q.bus.brokerCanDeadLetter(ctx, q.deadLetter, err) {
			return err
		}
		outcome = adapters.Reject // the broker makes a dead letter of it, as it came
	}
	if q.deadLetter != q.source.Name {
		q.bus.counters.deadLettered.Add(1)
	}
	return d.Settle(ctx, outcome)
}

// Get takes the next message, waiting for one until ctx ends. One that does
// not decode goes to the dead letters (of a dead-letter queue: back to its
// place), and the error wraps ErrCodec; [Raw] takes any. To handle messages as
// they come, Work is faster.
func (q *WorkQueue[T]) Get(ctx context.Context) (*Message[T], error) {
	m, err := q.get(ctx)
	return m, q.opError("get from", err)
}

func (q *WorkQueue[T]) get(ctx context.Context) (*Message[T], error) {
	began := time.Now()
	if err := cmp.Or(q.ready(ctx), q.split.errUnordered("Get")); err != nil {
		return nil, err
	}
	src := q.source
	src.Prefetch = 1
	sub, err := q.bus.driver.Subscribe(ctx, src)
	if err != nil {
		return nil, err
	}
	d, err := sub.Receive(ctx)
	_ = sub.Stop() // nothing more comes in any case; what is in hand stays so
	if err != nil {
		return nil, err
	}
	return q.decodeOrReject(ctx, began, d)
}

// TryGet takes the next message, or returns ErrEmpty at once if there is none. A loop until then
// need not end: what is sent on may come back at once, and what is given back is the next one. See
// [WorkQueue.Waiting].
func (q *WorkQueue[T]) TryGet(ctx context.Context) (*Message[T], error) {
	m, err := q.tryGet(ctx)
	return m, q.opError("get from", err)
}

func (q *WorkQueue[T]) tryGet(ctx context.Context) (*Message[T], error) {
	began := time.Now()
	d, err := q.tryGetDelivery(ctx)
	if err != nil {
		return nil, err
	}
	return q.decodeOrReject(ctx, began, d)
}

func (q *WorkQueue[T]) tryGetDelivery(ctx context.Context) (adapters.Delivery, error) {
	if err := cmp.Or(q.ready(ctx), q.split.errUnordered("Get")); err != nil {
		return adapters.Delivery{}, err
	}
	if err := q.bus.features.Require(adapters.CanGet); err != nil {
		return adapters.Delivery{}, err
	}
	getter, ok := q.bus.driver.(adapters.Getter)
	if !ok {
		return adapters.Delivery{}, &adapters.UnsupportedError{Adapter: q.bus.features.Adapter, Missing: adapters.CanGet}
	}
	return getter.Get(ctx, q.source)
}

// newMessage returns the message with its value, or without and an error where it does not decode.
func (q *WorkQueue[T]) newMessage(d adapters.Delivery) (*Message[T], error) {
	resetAttempts(&d)
	m := &Message[T]{queue: q, d: d}
	o := originOf(q.source)
	m.Delivery = public(&m.d, &o)
	c := Content{ID: m.ID, Type: d.Type, ContentType: d.ContentType, Headers: d.Message.Metadata, Payload: d.Message.Payload}
	return m, q.codecs().open(&c, d.ContentEncoding, &m.Value)
}

// decodeOrReject returns the message, or why it does not decode: then it is in the dead-letter
// queue, or back in its place if it came from there or cannot be sent there.
func (q *WorkQueue[T]) decodeOrReject(ctx context.Context, began time.Time, d adapters.Delivery) (*Message[T], error) {
	m, err := q.newMessage(d)
	q.bus.got(ctx, Got{m.Delivery, began, err})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resendTimeout)
		defer cancel()
		isDead := q.deadLetter == q.source.Name
		var failed error
		if !isDead {
			failed = q.reject(ctx, &m.d, err)
		}
		if isDead || failed != nil {
			failed = errors.Join(failed, d.Settle(ctx, adapters.Requeue)) // or it would stay in a hand that nobody has
		}
		return nil, errors.Join(err, failed)
	}
	return m, nil
}
