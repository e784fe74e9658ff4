package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Publish implements [adapters.Driver]. When it returns, the messages are in their queues; only a
// [Fault] makes it wait.
func (c *Client) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	priority, err := c.prepare(ctx, &p)
	if err != nil {
		return err
	}
	return kit.PublishEach(msgs, func(m *message.Message) error { return c.publish(ctx, &p, priority, m) })
}

// PublishAsync implements [adapters.AsyncPublisher]. It calls done itself, before it returns, and
// blocks where a [Fault] delays the confirm.
func (c *Client) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	priority, err := c.prepare(ctx, &p)
	if err != nil {
		return err
	}
	done(c.publish(ctx, &p, priority, m))
	return nil
}

// maxDelay is the longest delay, that of adapters/amqp: what works in a test works on RabbitMQ.
const maxDelay = 30 * 24 * time.Hour

// prepare checks everything that does not depend on the message, and declares the exchange. It
// returns the priority that RabbitMQ would be told.
func (c *Client) prepare(ctx context.Context, p *adapters.Publication) (uint8, error) {
	if err := c.check(ctx, "publish"); err != nil {
		return 0, err
	}
	if err := p.Validate(); err != nil {
		return 0, err
	}
	if p.Delay > maxDelay {
		return 0, fmt.Errorf("memory: %w: delay of %v, at most %v is possible", adapters.ErrInvalid, p.Delay, maxDelay)
	}
	if !p.To.Kind.IsExchange() || c.broker.routes.has(p.To) {
		return c.priority(p), nil
	}
	c.broker.control.Lock()
	defer c.broker.control.Unlock()
	return c.priority(p), c.broker.declareExchange(p.To)
}

func (c *Client) publish(ctx context.Context, p *adapters.Publication, priority uint8, m *message.Message) error {
	if err := adapters.ValidateMessage(m); err != nil {
		return err
	}
	f := c.broker.faults.hit(OnPublish, p.To.Name)
	if f == nil {
		return c.broker.store(p, priority, m)
	}
	var err error
	if f.Do != Refuse {
		err = c.broker.store(p, priority, m)
	}
	if lost := c.pause(ctx, f.Delay, f.removed); lost != nil {
		return fmt.Errorf("memory: %w: %w", adapters.ErrUnconfirmed, lost)
	}
	switch f.Do {
	case Refuse:
		return fmt.Errorf("memory: publish: refused: %w", adapters.ErrUnavailable)
	case CutSession:
		c.Cut()
		return adapters.ErrUnconfirmed
	case DropConfirm:
		return adapters.ErrUnconfirmed
	}
	return err
}

// store takes responsibility for a message: it is in all of its queues, or waits for its time.
func (b *Broker) store(p *adapters.Publication, priority uint8, m *message.Message) error {
	if p.UniqueFor == 0 {
		return b.storeAny(p, priority, m)
	}
	return b.unique.store(p, m.UUID, &b.clock, func() error { return b.storeAny(p, priority, m) })
}

func (b *Broker) storeAny(p *adapters.Publication, priority uint8, m *message.Message) error {
	var err error
	switch {
	case p.Delay > 0:
		var r record
		r.set(p, priority, m, bytes.Clone(m.Payload), &b.clock)
		b.delays.add(p.To, r, p.Delay)
	case p.To.Kind.IsExchange():
		var r record
		r.set(p, priority, m, bytes.Clone(m.Payload), &b.clock)
		if _, err = b.route(p.To, &r); err != nil && p.To.Kind == adapters.Exchange && !b.routes.has(p.To) {
			err = notFound("exchange", p.To.Name) // since it was looked for
		}
	default: // as route does, with one copy fewer
		q := b.routes.find(p.To)
		if q == nil {
			err = adapters.ErrUnroutable
			break
		}
		e := b.entries.get()
		e.set(p, priority, m, append(e.payload, m.Payload...), &b.clock)
		e.ownsPayload = true
		err = q.put(e)
	}
	if !p.Mandatory && errors.Is(err, adapters.ErrUnroutable) {
		return nil
	}
	return err
}

// route puts a message into its queues. If any refuses it, the error is ErrNacked, but others keep
// it; if there is none, it is ErrUnroutable.
func (b *Broker) route(to adapters.Endpoint, r *record) (refused []*queue, err error) {
	var queues []*queue
	if to.Kind.IsExchange() {
		queues = b.routes.match(to.Name, r)
	} else if q := b.routes.find(to); q != nil {
		queues = []*queue{q}
	}
	err = adapters.ErrUnroutable
	for _, q := range queues {
		e := b.entries.get()
		e.record = *r
		switch putErr := q.put(e); {
		case putErr == nil && refused == nil:
			err = nil
		case errors.Is(putErr, adapters.ErrNacked):
			refused, err = append(refused, q), putErr
		}
	}
	return refused, err
}
