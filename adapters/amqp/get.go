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
)

// Get implements [adapters.Getter]. The message has a channel of its own until
// it is settled. To handle messages as they come, Subscribe is much faster.
func (d *Driver) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	if err := d.checkCall(ctx, "get", validate(s)); err != nil {
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
	var t *taken
	err = d.withConnection(ctx, &sup, s.QueueName(), func(conn *connection) (err error) {
		t, err = conn.get(ctx, s, release)
		return err
	})
	switch {
	case err == nil:
		d.shareConnection(sup)
		return t.delivery, nil
	case errors.Is(err, adapters.ErrEmpty):
	default:
		err = fmt.Errorf("amqp: get from %s: %w", describe(s), err)
	}
	release()
	return adapters.Delivery{}, err
}

// taken is a message that was got, together with its channel.
type taken struct {
	delivery adapters.Delivery
	conn     *connection
	ch       *amqp091.Channel
	intake   *intake
	tag      uint64
	settled  atomic.Bool
	release  func()
	forget   func() bool
}

func (conn *connection) get(ctx context.Context, src adapters.Source, release func()) (*taken, error) {
	return await(ctx, conn.supervisor.driver, func() (*taken, error) {
		if err := conn.checkGivesSingly(src); err != nil {
			return nil, err
		}
		ch, err := conn.amqp.Channel()
		if err != nil {
			return nil, err
		}
		in := &intake{frames: conn.mux, arrived: make(chan *handed, 1), none: make(chan struct{}, 1)}
		var h *handed
		if err = conn.declare(ch, src, true); err == nil {
			h, err = in.get(ch, src.QueueName())
		}
		if err != nil {
			in.close(ch)
			return nil, err
		}
		t := &taken{conn: conn, ch: ch, intake: in, tag: h.tag, release: release}
		t.forget = context.AfterFunc(conn.ctx, release)
		h.decode(&t.delivery)
		h.message.SetContext(conn.ctx)
		t.delivery.Settler, t.delivery.Remaining = t, in.left
		return t, nil
	}, (*taken).close) // which gives the message back
}

// get asks for one message. As those of a consumer it does not come through amqp091, which takes no
// frames that are larger than negotiated: the broker sends some, for what it has added to headers.
func (in *intake) get(ch *amqp091.Channel, queue string) (*handed, error) {
	closes := ch.NotifyClose(make(chan *amqp091.Error, 1))
	var err error
	if in.number, err = in.frames.number(ch); err != nil {
		return nil, err
	}
	if err = in.frames.attach(in.number, in); err != nil {
		return nil, err
	}
	b, at := beginFrame(nil, frameMethod, in.number)
	b = binary.BigEndian.AppendUint32(b, methodGet)
	b = appendShort(append(b, 0, 0), queue)
	if err = in.write(endFrame(append(b, 0), at)); err != nil { // to be acknowledged
		return nil, err
	}
	select {
	case h := <-in.arrived:
		return h, nil
	case <-in.none:
		return nil, adapters.ErrEmpty
	case e := <-closes:
		if e == nil {
			return nil, amqp091.ErrClosed
		}
		return nil, e
	}
}

// checkGives refuses a queue that gives no single messages, as a stream: to ask it for one would cost
// the connection, and all others on it. RabbitMQ does not tell the type of a queue, but of an argument that a consumer cannot
// have it says whether it is wrong for all queues or for those of the type.
func (conn *connection) checkGivesSingly(src adapters.Source) error {
	queue := src.QueueName()
	conn.mu.Lock()
	_, known := conn.givesSingly[queue]
	conn.mu.Unlock()
	if known || !src.Passive { // another is of a type that this package declares
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
	case err == nil: // some other broker
	case !ok || e.Code != amqp091.PreconditionFailed:
		return err
	case strings.Contains(unquoted(e.Reason), "of queue type"):
		return fmt.Errorf("it gives no single messages, as streams do not: %w", err)
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.givesSingly) >= maxKnown {
		clear(conn.givesSingly)
	}
	conn.givesSingly[queue] = struct{}{}
	return nil
}

func (t *taken) close() {
	t.intake.close(t.ch)
	t.forget()
	t.release()
}

// Settle implements [adapters.Settler].
func (t *taken) Settle(ctx context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return invalid("settle: %v", o)
	}
	first := t.settled.CompareAndSwap(false, true)
	if t.conn.supervisor.driver.ctx.Err() != nil {
		return adapters.ErrClosed
	}
	if t.conn.ctx.Err() != nil {
		return adapters.ErrStaleDelivery
	}
	if !first {
		return nil
	}
	var err error
	if o == adapters.Ack {
		err = t.intake.Ack(t.tag, false)
	} else {
		err = t.intake.Nack(t.tag, false, o == adapters.Requeue)
	}
	if o == adapters.Requeue { // wait until it is back: each message has another channel, and several are to keep their order
		_, _ = await(ctx, t.conn.supervisor.driver, func() (bool, error) { t.close(); return true, nil }, func(bool) {})
	} else if !t.conn.supervisor.driver.spawn(t.close) {
		return adapters.ErrClosed
	}
	if err != nil {
		return adapters.ErrStaleDelivery
	}
	return nil
}
