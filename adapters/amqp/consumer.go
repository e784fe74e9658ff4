package amqp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// consumer is a subscription's life on one channel. What is delivered on the channel can be settled
// on it only.
type consumer struct {
	sub           *subscription
	conn          *connection
	ch            *amqp091.Channel
	queue         string
	tag           string
	channel       *consumeChannel
	closes        chan *amqp091.Error
	cancels       chan string
	ledger        *ledger
	since         time.Time
	countsReturns bool          // the queue counts redeliveries
	drained       chan struct{} // closed once nothing more is handed out or in hand
	decided       chan struct{} // closed once it is known why the broker cancelled it; set before errUndecided is
	calls         sync.Mutex    // held while ch is asked for something and answers

	ctx    context.Context // of all its messages
	cancel context.CancelCauseFunc
}

var consumerTags atomic.Uint64

func newTag() string { return "motif-" + strconv.FormatUint(consumerTags.Add(1), 10) }

// openConsumer declares what sub consumes, and starts to consume.
func (sub *subscription) openConsumer(ctx context.Context, conn *connection) (*consumer, error) {
	return kit.Call(ctx, sub.driver.tasks, func() (*consumer, error) {
		ch, err := conn.amqp.Channel()
		if err != nil {
			return nil, err
		}
		cc := &consumeChannel{mux: conn.mux, deliveries: make(chan *incoming, sub.source.Prefetch)}
		c := &consumer{
			sub: sub, conn: conn, ch: ch, channel: cc,
			tag:     newTag(),
			closes:  ch.NotifyClose(make(chan *amqp091.Error, 1)),
			cancels: ch.NotifyCancel(make(chan string, 1)),
			ledger:  newLedger(cc, sub.source.Prefetch),
			drained: make(chan struct{}),
			since:   time.Now(),
		}
		c.ledger.drained = func() { close(c.drained) }
		c.ctx, c.cancel = context.WithCancelCause(context.Background())
		if err = c.start(sub.source); err != nil {
			c.close()
			return nil, err
		}
		return c, nil
	}, (*consumer).close)
}

// start also declares on the consumer's own channel: if that fails there is nothing to consume.
func (c *consumer) start(src adapters.Source) (err error) {
	first := c.conn.claimFirstConsumer(src)
	if first {
		defer func() { c.conn.endFirstConsumer(err) }()
	}
	if err := c.conn.declare(c.ch, src, !first); err != nil {
		return err
	}
	if c.queue = src.QueueName(); src.Private() {
		if c.queue, err = declarePrivate(c.ch, src); err != nil {
			return err
		}
	}
	if v := c.conn.version; src.Queue.SingleActive && v.atLeast(consumerTimeouts) && !v.atLeast(sacFixed) {
		c.sub.driver.warnOfSAC(v)
	}
	c.countsReturns = c.conn.countsReturns(src)
	if err = c.ch.Qos(src.Prefetch, 0, false); err != nil {
		return err
	}
	if !first {
		c.conn.carry()
	}
	return c.channel.consume(c.ch, c.queue, c.tag, false, c.arguments(src))
}

// arguments are the arguments of basic.consume. A queue that somebody else declared may be of a
// type that does not take them.
func (c *consumer) arguments(src adapters.Source) amqp091.Table {
	switch {
	case src.Passive: // the default, which a stream, that cannot be consumed here, refuses
		return amqp091.Table{"x-priority": int32(0)}
	case src.Private() || c.conn.queueType(c.queue, src.Queue) == Classic:
		// Without it RabbitMQ (3.10) goes on to consume a new queue with the name of a deleted one,
		// and drops what it delivers from there. Quorum queues do not take it.
		return amqp091.Table{"x-cancel-on-ha-failover": true}
	case src.HoldTime > 0 && c.conn.version.atLeast(consumerTimeouts):
		return amqp091.Table{"x-consumer-timeout": milliseconds(min(src.HoldTime, maxExpiry*time.Millisecond))}
	}
	return nil
}

// close closes the channel, which requeues all that is not settled.
func (c *consumer) close() {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.channel.close(c.ch)
}

// deletionTime is how long RabbitMQ (3.10) may still know a quorum queue after it told the
// consumers that the queue is gone. Consuming from it then costs the connection, and others what
// they have in hand: on a busy machine 4.0 knew one after 130 ms still. So it is also as long as
// a new queue is waited for, which grows with the time that declarations take.
const deletionTime = 50 * time.Millisecond

// watch returns when the consumer delivers no more: because its channel is gone, because the broker
// cancelled it, or because the subscription has ended. It returns false in the last case, where the
// consumer is still to be ended.
func (c *consumer) watch() bool {
	cancels := c.cancels
	for {
		select {
		case e := <-c.closes:
			c.closed(e)
			return true
		case _, ok := <-cancels:
			if !ok {
				cancels = nil
				continue
			}
			d := c.sub.driver
			d.emit(Event{Kind: Cancelled, Role: c.conn.supervisor.role, Address: c.conn.address, Generation: c.conn.generation, Queue: c.queue})
			d.cfg.Logger.Warn("motif: the broker cancelled a consumer", "queue", c.queue)
			if !c.cancelled() {
				d.idle.ending.Add(1)
				if !d.tasks.Go(func() { defer d.idle.ending.Add(-1); c.retire(false, func() {}) }) {
					c.lost(nil)
				}
			}
			sleep(c.sub.ctx, max(deletionTime, c.conn.settlingTime()))
			return true
		case <-c.sub.ctx.Done():
			return false
		}
	}
}

// lost ends the consumer and everything in hand, after its channel is gone. e says why, unless it
// is nil.
func (c *consumer) lost(e *amqp091.Error) {
	cause, settle := error(adapters.ErrSessionLost), adapters.ErrStaleDelivery
	switch {
	case c.sub.driver.ctx.Err() != nil:
		cause, settle = adapters.ErrClosed, adapters.ErrClosed
	case e != nil:
		cause = fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, e)
	}
	c.ledger.close(settle)
	c.cancel(cause)
}

// retire delivers no more, requeues what nobody has received, calls quiet, and keeps the channel
// open as long as something is in hand.
func (c *consumer) retire(cancel bool, quiet func()) {
	if !c.ledger.stop() {
		close(c.drained)
	}
	if cancel {
		c.stopConsuming(quiet)
	}
	for gone := false; !gone; { // what came in before the broker stopped
		select {
		case in := <-c.channel.deliveries:
			c.giveBack(in)
		default:
			gone = true
		}
	}
	quiet()
	cancels := c.cancels
	for {
		select {
		case <-c.drained:
			c.ledger.close(errAllSettled)
			c.close()
			return
		case e := <-c.closes:
			c.closed(e)
			return
		case _, ok := <-cancels:
			if cancels = nil; ok && c.cancelled() {
				return
			}
		}
	}
}

// returnAll ends the consumer with its channel, whereupon the broker requeues all that it has sent
// on it, in order. Of what is nacked one by one, a quorum queue (RabbitMQ 3.10 to 4.3) loses the
// order.
func (c *consumer) returnAll() {
	c.ledger.stop() // sends the acknowledgements that wait
	c.lost(nil)
	c.close()
}

var (
	// errAllSettled closes a ledger when all that was in hand is settled: whoever settles then does
	// so for the second time.
	errAllSettled = errors.New("settled")

	// errUndecided closes a ledger until it is known why the broker cancelled the consumer.
	errUndecided = errors.New("cancelled")
)

// giveBack requeues a message that was not handed out.
func (c *consumer) giveBack(in *incoming) {
	var out adapters.Delivery
	noteArrival(&c.sub.source, c.queue, in, in.decode(&out)) // it may have been given back before
	c.sub.driver.expectSettled(&c.sub.source, c.queue, in.header, adapters.Requeue)
	c.ledger.requeue(in.tag)
	c.channel.unclaimed.Add(-1)
}

// deliver hands a message to a receiver, or returns false if the subscription has been stopped.
func (c *consumer) deliver(in *incoming) (out adapters.Delivery, ok bool) {
	if !c.ledger.handOut() {
		c.giveBack(in)
		return out, false
	}
	c.channel.unclaimed.Add(-1)
	c.sub.driver.idle.moves.Add(1)
	in.consumer = c
	until := in.decode(&out)
	c.sub.driver.correctReturns(&out, c.queue, c.countsReturns)
	noteArrival(&c.sub.source, c.queue, in, until)
	in.message.SetContext(c.ctx)
	out.Settler = in
	return out, true
}

// incoming is a message as it came from the broker, with what it takes to settle it.
type incoming struct {
	message     message.Message
	header      string // exchange, routing key and properties, undecoded
	tag         uint64
	redelivered bool
	settled     atomic.Bool
	consumer    *consumer
}

// Settle implements [adapters.Settler]. It does not block, except while it is not known why the
// broker cancelled the consumer.
func (in *incoming) Settle(ctx context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return invalid("settle: %v", o)
	}
	return in.settle(ctx, o, false)
}

// AckInRun implements [adapters.RunSettler].
func (in *incoming) AckInRun(ctx context.Context) error { return in.settle(ctx, adapters.Ack, true) }

func (in *incoming) settle(ctx context.Context, o adapters.Outcome, inRun bool) error {
	c := in.consumer
	var err error
	if in.settled.CompareAndSwap(false, true) {
		settled := c.sub.driver.expectSettled(&c.sub.source, c.queue, in.header, o)
		if err = c.ledger.settle(in.tag, o, inRun); err != nil {
			settled()
		}
	} else {
		err = c.ledger.closedErr()
	}
	if errors.Is(err, errUndecided) {
		err = c.awaitDecision(ctx)
	}
	switch {
	case err == nil, errors.Is(err, errAllSettled):
		return nil
	case errors.Is(err, adapters.ErrStaleDelivery) && c.ledger.heldTooLong(in.tag):
		return fmt.Errorf("amqp: %w: %w", err, adapters.ErrConsumerTimeout)
	case errors.Is(err, adapters.ErrStaleDelivery) && c.sub.source.Private() && c.sub.ctx.Err() != nil:
		return nil // the queue is gone in any case
	}
	return err
}
