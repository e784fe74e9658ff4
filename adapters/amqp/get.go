package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Get implements [adapters.Getter]. The message has a channel of its own until
// it is settled. To handle messages as they come, Subscribe is much faster.
func (d *Driver) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	if err := d.mayBegin(ctx, "get", validate(s)); err != nil {
		return adapters.Delivery{}, err
	}
	if s.Private() {
		return adapters.Delivery{}, invalid("get: a private source")
	}
	l, err := d.reserve()
	if err != nil {
		return adapters.Delivery{}, err
	}
	release := sync.OnceFunc(func() { d.release(l) })
	for {
		session, err := l.session(ctx)
		if err == nil {
			var t *taken
			if t, err = session.get(ctx, s, release); err == nil {
				return t.delivery, nil
			}
			if errors.Is(err, adapters.ErrEmpty) {
				release()
				return adapters.Delivery{}, err
			}
			if err = d.retry(ctx, session, err); err == nil {
				continue
			}
		}
		release()
		return adapters.Delivery{}, fmt.Errorf("amqp: get from %s: %w", describe(s), err)
	}
}

// taken is a message that was got, together with its channel.
type taken struct {
	message  message.Message
	delivery adapters.Delivery
	session  *session
	ch       *amqp091.Channel
	tag      uint64
	settled  atomic.Bool
	release  func()
	forget   func() bool
}

func (s *session) get(ctx context.Context, src adapters.Source, release func()) (*taken, error) {
	return await(ctx, s.link.d, func() (*taken, error) {
		ch, err := s.conn.Channel()
		if err != nil {
			return nil, err
		}
		if err = s.declare(ch, src, true); err == nil {
			var d amqp091.Delivery
			var ok bool
			if d, ok, err = ch.Get(src.QueueName(), false); ok {
				t := &taken{session: s, ch: ch, tag: d.DeliveryTag, release: release}
				t.forget = context.AfterFunc(s.ctx, release)
				decode(&d, &t.message, &t.delivery)
				t.message.SetContext(s.ctx)
				t.delivery.Settler = t
				return t, nil
			}
			if err == nil {
				err = adapters.ErrEmpty
			}
		}
		_ = ch.Close()
		return nil, err
	}, (*taken).close) // which gives the message back
}

func (t *taken) close() {
	_ = t.ch.Close()
	t.forget()
	t.release()
}

// Settle implements [adapters.Settler].
func (t *taken) Settle(_ context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return invalid("settle: %v", o)
	}
	first := t.settled.CompareAndSwap(false, true)
	if t.session.link.d.ctx.Err() != nil {
		return adapters.ErrClosed
	}
	if t.session.ctx.Err() != nil {
		return adapters.ErrStaleDelivery
	}
	if !first {
		return nil
	}
	var err error
	if o == adapters.Ack {
		err = t.ch.Ack(t.tag, false)
	} else {
		err = t.ch.Nack(t.tag, false, o == adapters.Requeue)
	}
	if !t.session.link.d.spawn(t.close) {
		return adapters.ErrClosed
	}
	if err != nil {
		return adapters.ErrStaleDelivery
	}
	return nil
}
