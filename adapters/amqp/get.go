package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Get implements [adapters.Getter]. The message has a channel of its own until it is settled, which
// is kept for the next Get from that queue for a while. To handle messages as they come, Subscribe
// is much faster.
func (d *Driver) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	if err := d.checkCall(ctx, "get", validateSource(s)); err != nil {
		return adapters.Delivery{}, err
	}
	if err := s.ValidateGet(); err != nil {
		return adapters.Delivery{}, fmt.Errorf("amqp: %w", err)
	}
	d.idle.getting.Add(1)
	defer d.idle.getting.Add(-1)
	if m, err := d.getFromIdle(ctx, s); err == nil {
		return m.handOut(), nil
	} else if errors.Is(err, adapters.ErrEmpty) || ctx.Err() != nil {
		return adapters.Delivery{}, err
	}
	sup, err := d.reserveChannel()
	if err != nil {
		return adapters.Delivery{}, err
	}
	release := sync.OnceFunc(func() { d.releaseChannel(sup) })
	var m *fetchedMessage
	err = d.withConnection(ctx, &sup, s.QueueName(), func(conn *connection) (err error) {
		m, err = conn.get(ctx, s, release)
		return err
	})
	switch {
	case err == nil:
		d.shareConnection(sup)
		return m.handOut(), nil
	case errors.Is(err, adapters.ErrEmpty):
	default:
		err = fmt.Errorf("amqp: get from %s: %w", sourceName(s), err)
	}
	release()
	return adapters.Delivery{}, err
}

// fetchedMessage is a message from Get, with its channel.
type fetchedMessage struct {
	delivery adapters.Delivery
	*getChannel
	tag     uint64
	in      *incoming
	until   string // the end of its delay
	settled atomic.Bool
}

// handOut counts the message as in hand, and returns it.
func (m *fetchedMessage) handOut() adapters.Delivery {
	m.conn.got.Add(1)
	m.conn.supervisor.driver.idle.moves.Add(1)
	noteArrival(&m.source, m.source.QueueName(), m.in, m.until)
	return m.delivery
}

func (conn *connection) get(ctx context.Context, src adapters.Source, release func()) (*fetchedMessage, error) {
	return kit.Call(ctx, conn.supervisor.driver.tasks, func() (*fetchedMessage, error) {
		conn.carry()
		if err := conn.checkGivesSingly(src); err != nil {
			return nil, err
		}
		ch, err := conn.amqp.Channel()
		if err != nil {
			return nil, err
		}
		g := &getChannel{
			conn: conn, source: src, ch: ch, release: release,
			channel: &consumeChannel{mux: conn.mux, deliveries: make(chan *incoming, 1), empty: make(chan struct{}, 1)},
		}
		g.ctx, g.cancel = context.WithCancelCause(conn.ctx)
		g.channel.ended = g.ended
		g.source.Keys = slices.Clone(src.Keys)
		if err = conn.declare(ch, src, true); err == nil {
			g.closes, err = g.channel.open(ch)
		}
		var in *incoming
		if err == nil {
			in, err = g.channel.next(src.QueueName(), g.closes)
		}
		if err != nil { // its place on the connection is still the caller's
			g.cancel(nil)
			g.channel.close(ch)
			return nil, err
		}
		g.unhook = context.AfterFunc(conn.ctx, release)
		return g.fetched(in), nil
	}, (*fetchedMessage).close) // which requeues the message
}

// checkGivesSingly refuses a queue that gives no single messages, such as a stream: asking it for
// one would cost the connection. RabbitMQ does not reveal the type of a queue. But when it refuses
// a consumer's argument, it says whether that is wrong for all queues or for the queue's type.
func (conn *connection) checkGivesSingly(src adapters.Source) error {
	queue := src.QueueName()
	conn.mu.Lock()
	_, known := conn.givesSingly[queue]
	conn.mu.Unlock()
	if known || !src.Passive { // any other is of a type that this package declares
		return nil
	}
	ch, err := conn.amqp.Channel()
	if err != nil {
		return err
	}
	defer ch.Close() //nolint:errcheck // it is lost
	_, err = ch.Consume(queue, newTag(), false, false, false, false, amqp091.Table{"x-priority": "none"})
	e, ok := errors.AsType[*amqp091.Error](err)
	switch {
	case err == nil: // not RabbitMQ
	case !ok || e.Code != amqp091.PreconditionFailed:
		return err
	case strings.Contains(unquoted(e.Reason), "of queue type"):
		return fmt.Errorf("single messages cannot be taken from it, as from a stream: %w", err)
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.givesSingly) >= maxKnown {
		clear(conn.givesSingly)
	}
	conn.givesSingly[queue] = struct{}{}
	return nil
}

// Settle implements [adapters.Settler].
func (m *fetchedMessage) Settle(ctx context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return invalid("settle: %v", o)
	}
	first := m.settled.CompareAndSwap(false, true)
	if m.conn.supervisor.driver.ctx.Err() != nil {
		return adapters.ErrClosed
	}
	lost := m.lost()
	if !first {
		return lost
	}
	defer m.conn.got.Add(-1)
	if lost != nil {
		return lost
	}
	d := m.conn.supervisor.driver
	d.expectSettled(&m.source, m.source.QueueName(), m.in.header, o)
	var err error
	if o == adapters.Ack {
		err = m.channel.Ack(m.tag, false)
	} else {
		err = m.channel.Nack(m.tag, false, o == adapters.Requeue)
	}
	if err != nil { // the channel is gone, which was not known yet
		lost = cmp.Or(m.lost(), adapters.ErrStaleDelivery)
	}
	switch {
	case o == adapters.Requeue: // wait until it is back: each message has its own channel, and several must keep their order
		_, _ = kit.Call(ctx, d.tasks, func() (bool, error) { m.close(); return true, nil }, func(bool) {})
	case err != nil:
		d.tasks.Go(m.close)
	case d.isClosing(): // it may not have been sent
		return adapters.ErrClosed
	default:
		m.keep()
	}
	return lost
}
