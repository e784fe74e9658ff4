package memory

import (
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
)

// defaultTimeout is RabbitMQ's, see [ConsumerTimeout].
const defaultTimeout = 30 * time.Minute

// ConsumerTimeout sets how long a subscription may hold a message, received or not, before the
// broker takes it back, with everything else that the subscription holds: the default is 30
// minutes, as on RabbitMQ. The contexts of the messages then end with
// [adapters.ErrConsumerTimeout]. It is noticed up to a tenth later, and not for what is held after
// Stop. It holds for each message from Get, too.
//
// A broker that imitates RabbitMQ 4.3 does so for quorum queues only, and lets each subscription
// say how long it needs (adapters.Source.HoldTime), but not who gets a single message.
// ConsumerTimeout panics if d is not positive.
func ConsumerTimeout(d time.Duration) Option {
	if d <= 0 {
		panic(fmt.Sprintf("motif: memory: consumer timeout of %v", d))
	}
	return Option{func(b *Broker) { b.consumerTimeout = d }}
}

// timeout returns how long a subscription to s may hold a message of q.
func (b *Broker) timeout(q *queue, s adapters.Source) time.Duration {
	if b.version == RabbitMQ43 {
		if q.ready.order == classic {
			return 0
		}
		if s.HoldTime > 0 {
			return s.HoldTime
		}
	}
	return b.consumerTimeout
}

// armTimeoutCheck has what c holds checked. The clock is not read for each message: a check notes
// what it sees for the first time, and the next ones compare. The queue's lock is held.
func (q *queue) armTimeoutCheck(c *consumer) {
	if q.timeoutArmed || c.timeout == 0 {
		return
	}
	q.timeoutArmed = true
	if wait := c.timeout / 10; q.timeoutTimer == nil {
		q.timeoutTimer = time.AfterFunc(wait, q.checkTimeouts)
	} else {
		q.timeoutTimer.Reset(wait)
	}
}

// checkTimeouts finds what is held for too long.
func (q *queue) checkTimeouts() {
	var late []*consumer
	q.mu.Lock()
	now, soonest := q.broker.clock.now(), time.Duration(0)
	for _, c := range q.consumers {
		if c.timeout == 0 || c.unacked.head == nil {
			continue
		}
		soonest = shorter(soonest, c.timeout/10)
		for e := c.unacked.head; e != nil; e = e.next {
			if e.heldSince == 0 {
				e.heldSince = now
			} else if now-e.heldSince >= c.timeout && c.overdue == nil {
				c.overdue = e
				late = append(late, c)
			}
		}
	}
	if q.timeoutArmed = soonest > 0 && !q.deleted; q.timeoutArmed {
		q.timeoutTimer.Reset(soonest)
	}
	q.mu.Unlock()
	for _, c := range late {
		q.broker.consumerTimedOut(c)
	}
}

// consumerTimedOut ends a consumer with everything in hand. Its subscription is restored.
func (b *Broker) consumerTimedOut(c *consumer) {
	b.control.Lock()
	defer b.control.Unlock()
	q := c.queue
	q.mu.Lock()
	if c.stopped || c.overdue.consumer != c { // settled, or lost, just now
		c.overdue = nil
		q.mu.Unlock()
		return
	}
	b.takeBack(c)
	b.afterDetach(q, true)
	c.sub.restore()
}

// getTimedOut is consumerTimedOut for what came from Get.
func (b *Broker) getTimedOut(c *consumer) {
	b.control.Lock()
	defer b.control.Unlock()
	q := c.queue
	q.mu.Lock()
	if c.overdue = c.unacked.head; c.overdue == nil { // settled, or lost, just now
		q.mu.Unlock()
		return
	}
	b.takeBack(c)
	b.afterDetach(q, false)
}

// takeBack ends a consumer with everything in hand. Its queue's lock is held, and released.
func (b *Broker) takeBack(c *consumer) {
	c.queue.detachLost(c, adapters.ErrSessionLost)
	c.queue.unlock()
	delete(c.session.consumers, c)
	c.cancel(fmt.Errorf("memory: %w: %w", adapters.ErrConsumerTimeout, adapters.ErrSessionLost))
}
