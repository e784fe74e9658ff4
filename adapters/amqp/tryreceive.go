package amqp

import (
	"context"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// askAgain is the pause before a queue that did not answer is asked again.
const askAgain = 50 * time.Millisecond

var _ adapters.TryReceiver = (*subscription)(nil)

// TryReceive implements [adapters.TryReceiver].
func (sub *subscription) TryReceive(ctx context.Context) (adapters.Delivery, error) {
	var asked *consumer // of which everything has come in
	for {
		if err := ctx.Err(); err != nil {
			return adapters.Delivery{}, fmt.Errorf("amqp: receive: %w", err)
		}
		state := sub.state.Load()
		c := state.consumer
		switch {
		case state.err != nil:
			return adapters.Delivery{}, state.err
		case c == nil || asked != nil && c != asked: // the session is lost
			return adapters.Delivery{}, adapters.ErrEmpty
		}
		select {
		case in := <-c.channel.deliveries:
			if d, ok := c.deliver(in); ok {
				return d, nil
			}
			continue
		default:
		}
		if asked == c {
			return adapters.Delivery{}, adapters.ErrEmpty
		}
		c.ledger.flushNow()
		_, err := kit.Call(ctx, sub.driver.tasks, func() (struct{}, error) { return struct{}{}, c.awaitSent(ctx) }, func(struct{}) {})
		if err != nil && ctx.Err() != nil {
			return adapters.Delivery{}, fmt.Errorf("amqp: receive: %w", ctx.Err())
		}
		asked = c // and if it is gone, so is what was on its way
	}
}

// awaitSent returns when all has come in that the queue had given the consumer, and when the broker
// has taken what was written to the channel before.
//
// A queue of either type (RabbitMQ 3.10 to 4.3) answers a passive declaration behind what it has
// sent to the process of the channel. That process may send the answer on first, for it waits for
// it; but it takes the next declaration behind the messages. Cancelling the consumer would not do:
// the process of the channel gives back what a quorum queue sends it from then on, and the queue
// counts that.
func (c *consumer) awaitSent(ctx context.Context) error {
	c.calls.Lock()
	defer c.calls.Unlock()
	for answers := 0; answers < 2; {
		q, err := c.ch.QueueDeclarePassive(c.queue, true, false, false, false, nil)
		switch {
		case err != nil:
			return err
		case q.Consumers > 0 || answers > 0:
			answers++
		default: // not even this one: a quorum queue that is busy did not answer within 250 ms
			sleep(ctx, askAgain)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}
