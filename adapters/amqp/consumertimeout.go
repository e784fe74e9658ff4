package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// RabbitMQ takes back a message that is held for longer than its consumer timeout: 30 minutes,
// unless an operator, a policy or (from 4.3 on) the queue or the consumer says otherwise. Before
// 4.3 it closes the channel. From 4.3 on it does so for quorum queues only: it takes back all that
// the consumer holds, and cancels the consumer. Nothing must be settled on that channel then: an
// acknowledgement (measured on 4.3.6) leaves a consumer behind that swallows messages.
const defaultConsumerTimeout = 30 * time.Minute

// shortestTimeout is the least age of a consumer that can have held a message for too long. A
// younger consumer was cancelled because somebody deleted its queue and made it again.
const shortestTimeout = time.Second

// decisionTime is how long the broker has to say why it cancelled a consumer. It takes a minute
// where the node of a classic queue was killed.
const decisionTime = 5 * time.Second

// isConsumerTimeout reports whether a channel was closed because of the consumer timeout.
func isConsumerTimeout(e *amqp091.Error) bool {
	return e != nil && e.Code == amqp091.PreconditionFailed && strings.Contains(e.Reason, "delivery acknowledgement on channel") &&
		strings.Contains(e.Reason, "timed out")
}

// closed handles the end of the channel, with everything in hand.
func (c *consumer) closed(e *amqp091.Error) {
	if isConsumerTimeout(e) {
		c.timeOut(e)
	} else {
		c.lost(e)
	}
}

// cancelled handles the broker's cancellation of the consumer. It reports whether the consumer has
// ended; if not, what is in hand can still be settled.
func (c *consumer) cancelled() bool {
	src, conn := c.sub.source, c.conn
	if !conn.version.atLeast(consumerTimeouts) || src.Private() || !src.Passive && conn.queueType(c.queue, src.Queue) == Classic {
		return false
	}
	c.decided = make(chan struct{})
	defer close(c.decided)
	c.ledger.close(errUndecided)
	c.close()               // there may be no other channel to ask on
	ctx := c.sub.driver.ctx // a stopped subscription may have something in hand, too
	// A queue that is being deleted would still be found.
	sleep(ctx, max(2*deletionTime, conn.settlingTime()))
	ctx, done := context.WithTimeout(ctx, decisionTime)
	defer done()
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclarePassive(c.queue, true, false, false, false, nil)
		return err
	})
	classic := false
	if err == nil && src.Passive {
		classic, err = kit.Call(ctx, c.sub.driver.tasks, func() (bool, error) { return conn.isClassic(c.queue), nil }, func(bool) {})
	}
	switch {
	case err != nil && errors.Is(sentinel(err), adapters.ErrNotFound), time.Since(c.since) < shortestTimeout: // deleted
		c.ledger.close(errAllSettled)
		if c.ledger.stop() { // as where the channel stays open: what is in hand is lost with the connection
			context.AfterFunc(conn.ctx, func() { c.lost(nil) })
		}
	case err == nil && conn.alive() && !classic:
		c.timeOut(nil)
	default: // such as the node of a classic queue that stopped: everything is back in the queue
		c.lost(nil)
	}
	return true
}

// awaitDecision returns why nothing can be settled any more, once that is known. Until then, and if
// ctx ends, it is not known whether the broker has taken the message back.
func (c *consumer) awaitDecision(ctx context.Context) error {
	select {
	case <-c.decided:
		return c.ledger.closedErr()
	case <-ctx.Done():
		return adapters.ErrStaleDelivery
	}
}

// timeOut ends the consumer and everything in hand, because the broker has taken it back. e is the
// reason that it gave, or nil.
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
	c.conn.noteTimeout(c.queue, cause, c.sub.source.Prefetch)
}

// noteTimeout tells those who operate the program that the broker took messages back.
func (conn *connection) noteTimeout(queue string, cause error, prefetch int) {
	d := conn.supervisor.driver
	d.emit(Event{Kind: TimedOut, Role: conn.supervisor.role, Address: conn.address, Generation: conn.generation, Queue: queue, Err: cause})
	d.cfg.Logger.Warn("motif: the broker took back what was held for longer than its consumer timeout; handle it in less time, "+
		"lower Prefetch, or raise the timeout", "queue", queue, "prefetch", prefetch)
}

// warnOfTimeout warns that a message may be taken back before its time is up.
func (sub *subscription) warnOfTimeout(conn *connection) {
	if sub.source.HoldTime > defaultConsumerTimeout && !conn.version.atLeast(consumerTimeouts) {
		sub.driver.cfg.Logger.Warn("motif: messages may be held for longer than RabbitMQ's consumer timeout, which is 30 minutes unless an "+
			"operator has raised it", "source", sourceName(sub.source), "hold_time", sub.source.HoldTime)
	}
}

// warnOfSAC warns, once, that this version of RabbitMQ can block a queue with a single active
// consumer for good.
func (d *Driver) warnOfSAC(v version) {
	d.warnedOfSAC.Do(func() {
		d.cfg.Logger.Warn("motif: on RabbitMQ 4.3.0 to 4.3.5 a queue with a single active consumer (Partitions) delivers nothing any more once all its "+
			"consumers were timed out: update to 4.3.6 (rabbitmq-server issue 17317)", "version", v.String())
	})
}
