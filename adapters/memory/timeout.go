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
// Stop.
//
// A broker that imitates RabbitMQ 4.3 does so for quorum queues only, and lets each subscription
// say how long it needs (adapters.Source.HoldTime). ConsumerTimeout panics if d is not positive.
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

// watch has what c holds looked at. The clock is not read for each message: a look notes what it
// sees for the first time, and the next ones compare. The queue's lock is held.
func (q *queue) watch(c *consumer) {
	if q.watching || c.timeout == 0 {
		return
	}
	q.watching = true
	if wait := c.timeout / 10; q.watcher == nil {
		q.watcher = time.AfterFunc(wait, q.look)
	} else {
		q.watcher.Reset(wait)
	}
}

// look finds what is held for too long.
func (q *queue) look() {
	var late []*consumer
	q.mu.Lock()
	now, soonest := q.broker.clock.now(), time.Duration(0)
	for _, c := range q.consumers {
		if c.timeout == 0 || c.held.head == nil {
			continue
		}
		soonest = shorter(soonest, c.timeout/10)
		for e := c.held.head; e != nil; e = e.next {
			if e.since == 0 {
				e.since = now
			} else if now-e.since >= c.timeout && c.culprit == nil {
				c.culprit = e
				late = append(late, c)
			}
		}
	}
	if q.watching = soonest > 0 && !q.gone; q.watching {
		q.watcher.Reset(soonest)
	}
	q.mu.Unlock()
	for _, c := range late {
		q.broker.takeBack(c)
	}
}

// takeBack ends a consumer with everything in hand. Its subscription is restored.
func (b *Broker) takeBack(c *consumer) {
	b.control.Lock()
	defer b.control.Unlock()
	q := c.queue
	q.mu.Lock()
	if c.gone || c.culprit.consumer != c { // settled, or lost, just now
		c.culprit = nil
		q.mu.Unlock()
		return
	}
	q.lose(c, adapters.ErrSessionLost)
	q.unlock()
	delete(c.session.consumers, c)
	c.cancel(fmt.Errorf("memory: %w: %w", adapters.ErrConsumerTimeout, adapters.ErrSessionLost))
	b.handBack(q, true)
	c.sub.heal()
}
