package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// delivery is a message as its receiver has it, with what it takes to settle it, in one allocation.
type delivery struct {
	message  message.Message
	consumer *consumer
	entry    *entry // nil once settled; under the queue's lock
}

// smallDelivery has its payload in the same allocation.
type smallDelivery struct {
	delivery
	payload [256]byte
}

// newDelivery makes a delivery with a copy of the payload.
func newDelivery(payload []byte) *delivery {
	const small = len(smallDelivery{}.payload)
	if n := len(payload); n > small/4 && n <= small {
		d := new(smallDelivery)
		d.message.Payload = d.payload[:n:n]
		copy(d.message.Payload, payload)
		return &d.delivery
	}
	d := new(delivery)
	d.message.Payload = make([]byte, len(payload))
	copy(d.message.Payload, payload)
	return d
}

// receive makes the receiver's own copy of t.
func (c *consumer) receive(t dequeued) (out adapters.Delivery) {
	d := newDelivery(t.entry.payload)
	d.consumer, d.entry = c, t.entry
	d.message.SetContext(c.ctx)
	out.Settler = d
	t.fill(&out, &d.message)
	return out
}

// fill makes out the delivery of t as m, which has a copy of the payload.
func (t *dequeued) fill(out *adapters.Delivery, m *message.Message) {
	e := t.entry
	m.UUID, m.Metadata = e.uuid, maps.Clone(e.metadata)
	if m.Metadata == nil {
		m.Metadata = make(message.Metadata) // for Set
	}
	out.Message = m
	out.Key, out.Redelivered, out.Returned, out.Properties = e.key, t.redelivered, t.returns, e.props
	out.Died = len(e.deaths) > 0
	out.Remaining = t.remaining
}

// Settle implements [adapters.Settler].
func (d *delivery) Settle(ctx context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return fmt.Errorf("memory: settle: %w: %v", adapters.ErrInvalid, o)
	}
	q := d.consumer.queue
	if f := q.broker.faults.hit(OnSettle, q.name); f != nil {
		if err := d.consumer.session.client.fail(ctx, "settle", f); err != nil && f.Do != CutSession {
			return err
		}
	}
	return d.settle(o)
}

// settle fails only if it is too late.
func (d *delivery) settle(o adapters.Outcome) error {
	c := d.consumer
	q := c.queue
	q.mu.Lock()
	e := d.release()
	if e == nil {
		lost, tooLong := c.lost, d.entry != nil && d.entry == c.overdue
		q.mu.Unlock()
		late := c.session.lateSettleError(lost)
		if tooLong && errors.Is(late, adapters.ErrStaleDelivery) {
			return fmt.Errorf("memory: %w: %w", late, adapters.ErrConsumerTimeout)
		}
		return late
	}
	if !q.deleted {
		switch o {
		case adapters.Requeue:
			q.ready.requeue(e)
		case adapters.Reject:
			q.markDead(e, diedRejected)
		}
		q.dispatch()
	}
	drained := c.stopped && c.unackedCount == 0
	q.unlock()
	if o == adapters.Ack {
		q.broker.entries.put(e)
	}
	if drained {
		q.broker.forget(c)
	}
	return nil
}

// release takes the entry from its consumer, or returns nil if the consumer no longer holds it for
// this delivery. The queue's lock is held.
func (d *delivery) release() *entry {
	e := d.entry
	if e == nil || e.consumer != d.consumer {
		return nil
	}
	d.entry = nil // the receiver may keep its message for long, and the queue's copy is no longer needed
	d.consumer.queue.release(e)
	return e
}
