package amqp

import "time"

// unbindTime is how long an exchange may still route to a queue that was unbound. In a cluster
// RabbitMQ (4.3) nacked publishes through another node for up to 4 ms, and none after 20 ms; on a
// single node it nacked none.
const unbindTime = 50 * time.Millisecond

// stopConsuming ends a consumer that nobody receives from any more. A private queue goes with its
// consumer, and for some milliseconds RabbitMQ (4.3) nacks what is published to its exchange,
// although other queues have it: it routes to a queue whose process has ended. So a private queue
// is first unbound, and then deleted explicitly.
func (c *consumer) stopConsuming(quiet func()) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if !c.sub.source.Private() {
		_ = c.ch.Cancel(c.tag, false) // it fails only if the channel is gone
		return
	}
	if c.unbind() {
		quiet() // nothing more is received in any case
		sleep(c.sub.driver.ctx, unbindTime)
	}
	_, _ = c.ch.QueueDelete(c.queue, false, false, false)
}

// unbind unbinds a private queue, and reports whether that has to take effect.
func (c *consumer) unbind() bool {
	s := c.sub.source
	if !s.Private() || !s.Kind.IsExchange() {
		return false
	}
	for _, key := range routingKeys(s) {
		if c.ch.QueueUnbind(c.queue, key, s.Name, nil) != nil {
			return false // the channel is gone, and the queue with it
		}
	}
	return true
}
