package amqp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/kit"
)

// Get implements [adapters.Getter]. The message has a channel of its own until it is settled. To
// handle messages as they come, Subscribe is much faster.
func (d *Driver) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	if err := d.checkCall(ctx, "get", validateSource(s)); err != nil {
		return adapters.Delivery{}, err
	}
	if s.Private() {
		return adapters.Delivery{}, invalid("get: a private source")
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
		return m.delivery, nil
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
	conn     *connection
	ch       *amqp091.Channel
	channel  *consumeChannel
	tag      uint64
	settled  atomic.Bool
	release  func()
	unhook   func() bool
}

func (conn *connection) get(ctx context.Context, src adapters.Source, release func()) (*fetchedMessage, error) {
	return kit.Call(ctx, conn.supervisor.driver.tasks, func() (*fetchedMessage, error) {
		if err := conn.checkGivesSingly(src); err != nil {
			return nil, err
		}
		ch, err := conn.amqp.Channel()
		if err != nil {
			return nil, err
		}
		cc := &consumeChannel{mux: conn.mux, deliveries: make(chan *incoming, 1), empty: make(chan struct{}, 1)}
		var in *incoming
		if err = conn.declare(ch, src, true); err == nil {
			in, err = cc.get(ch, src.QueueName())
		}
		if err != nil {
			cc.close(ch)
			return nil, err
		}
		m := &fetchedMessage{conn: conn, ch: ch, channel: cc, tag: in.tag, release: release}
		m.unhook = context.AfterFunc(conn.ctx, release)
		in.decode(&m.delivery)
		in.message.SetContext(conn.ctx)
		m.delivery.Settler, m.delivery.Remaining = m, cc.remaining
		return m, nil
	}, (*fetchedMessage).close) // which requeues the message
}

// get gets one message. Like those of a consumer it does not come through amqp091, which takes no
// frames larger than negotiated: the broker sends some, because it adds headers.
func (cc *consumeChannel) get(ch *amqp091.Channel, queue string) (*incoming, error) {
	closes, err := cc.open(ch)
	if err != nil {
		return nil, err
	}
	return cc.next(queue, closes)
}

// open prepares for next. It returns a channel that receives when the broker's channel is closed.
func (cc *consumeChannel) open(ch *amqp091.Channel) (closes <-chan *amqp091.Error, err error) {
	closes = ch.NotifyClose(make(chan *amqp091.Error, 1))
	if cc.number, err = cc.mux.ChannelNumber(ch); err != nil {
		return nil, err
	}
	return closes, cc.mux.Attach(cc.number, cc)
}

// next gets the next message.
func (cc *consumeChannel) next(queue string, closes <-chan *amqp091.Error) (*incoming, error) {
	b, at := frame.Begin(nil, frame.TypeMethod, cc.number)
	b = binary.BigEndian.AppendUint32(b, frame.MethodGet)
	b = frame.AppendShort(append(b, 0, 0), queue)
	if err := cc.write(frame.End(append(b, 0), at)); err != nil { // 0: it will be acknowledged
		return nil, err
	}
	select {
	case in := <-cc.deliveries:
		return in, nil
	case <-cc.empty:
		return nil, adapters.ErrEmpty
	case e := <-closes:
		if e == nil {
			return nil, amqp091.ErrClosed
		}
		return nil, e
	}
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

func (m *fetchedMessage) close() {
	m.channel.close(m.ch)
	m.unhook()
	m.release()
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
	if m.conn.ctx.Err() != nil {
		return adapters.ErrStaleDelivery
	}
	if !first {
		return nil
	}
	var err error
	if o == adapters.Ack {
		err = m.channel.Ack(m.tag, false)
	} else {
		err = m.channel.Nack(m.tag, false, o == adapters.Requeue)
	}
	if o == adapters.Requeue { // wait until it is back: each message has its own channel, and several must keep their order
		_, _ = kit.Call(ctx, m.conn.supervisor.driver.tasks, func() (bool, error) { m.close(); return true, nil }, func(bool) {})
	} else if !m.conn.supervisor.driver.tasks.Go(m.close) {
		return adapters.ErrClosed
	}
	if err != nil {
		return adapters.ErrStaleDelivery
	}
	return nil
}
