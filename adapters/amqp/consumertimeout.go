package amqp

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// RabbitMQ takes a message back that is held for longer than its consumer timeout: 30 minutes,
// unless an operator, a policy or (from 4.3 on) the queue or the consumer says otherwise. Before
// 4.3 it closes the channel. From 4.3 on it does so for quorum queues only, takes back all that
// the consumer holds, and cancels the consumer. Nothing must be settled on that channel then: an
// acknowledgement (measured: 4.3.6) leaves a consumer behind that swallows messages.
const defaultConsumerTimeout = 30 * time.Minute

// shortestTimeout is how old a consumer is at least that can have held a message for too long. A
// younger one was cancelled because its queue was deleted, and made again by somebody.
const shortestTimeout = time.Second

// isConsumerTimeout reports whether that is why a channel was closed.
func isConsumerTimeout(e *amqp091.Error) bool {
	return e != nil && e.Code == amqp091.PreconditionFailed && strings.Contains(e.Reason, "delivery acknowledgement on channel") &&
		strings.Contains(e.Reason, "timed out")
}

// closed is for when the channel is gone, with all that is in hand.
func (c *consumer) closed(e *amqp091.Error) {
	if isConsumerTimeout(e) {
		c.timeOut(e)
	} else {
		c.lost(e)
	}
}

// cancelled is for when the broker has cancelled the consumer. It reports whether the consumer
// is over for it; if not, what is in hand can still be settled.
func (c *consumer) cancelled() bool {
	src, conn := c.sub.source, c.conn
	if !conn.version.atLeast(consumerTimeouts) || src.Private() || !src.Passive && conn.queueType(c.queue, src.Queue) == Classic {
		return false
	}
	c.ledger.close(errAllSettled)
	c.close()                  // there may be no other channel to ask with
	ctx := c.sub.driver.ctx    // also while a subscription that was stopped has something in hand
	sleep(ctx, 2*deletionTime) // or a queue that is going would still be found
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclarePassive(c.queue, true, false, false, false, nil)
		return err
	})
	switch {
	case err != nil && errors.Is(sentinel(err), adapters.ErrNotFound), time.Since(c.since) < shortestTimeout: // deleted
	case conn.alive():
		c.timeOut(nil)
	default: // whatever it was, all is back in the queue now
		c.lost(nil)
	}
	return true
}

// timeOut ends the consumer, and all that is in hand with it, because the broker has taken it
// back. e is its word for that, if it said one.
func (c *consumer) timeOut(e *amqp091.Error) {
	d := c.sub.driver
	if d.ctx.Err() != nil {
		c.lost(e)
		return
	}
	c.ledger.expire()
	cause := fmt.Errorf("amqp: %w: %w", adapters.ErrConsumerTimeout, adapters.ErrSessionLost)
	if e != nil {
		cause = fmt.Errorf("%w: %w", cause, e)
	}
	c.cancel(cause)
	d.emit(Event{
		Kind: TimedOut, Role: c.conn.supervisor.role, Address: c.conn.address, Generation: c.conn.generation, Queue: c.queue, Err: cause,
	})
	d.cfg.Logger.Warn("motif: the broker took back what was held for longer than its consumer timeout; handle it in less time, "+
		"lower Prefetch, or raise the timeout", "queue", c.queue, "prefetch", c.sub.source.Prefetch)
}

// warnOfTimeout says once that a message may be taken back before its time is up.
func (sub *subscription) warnOfTimeout(conn *connection) {
	if sub.source.HoldTime > defaultConsumerTimeout && !conn.version.atLeast(consumerTimeouts) {
		sub.driver.cfg.Logger.Warn("motif: messages may be held for longer than RabbitMQ's consumer timeout, which is 30 minutes unless an "+
			"operator has raised it", "source", sourceName(sub.source), "hold_time", sub.source.HoldTime)
	}
}
