package amqp

import "time"

// unbindTime is how long an exchange may still route to a queue that is no longer bound to it. In
// a cluster RabbitMQ (4.3) nacked a publish through another node that was sent up to 4 ms later, and
// none after 20; on a single node none at all.
const unbindTime = 50 * time.Millisecond

// stopConsuming ends a consumer that nobody receives from any more. With the last one a private queue goes,
// and what is published to it from then on RabbitMQ (4.3) nacks, for some milliseconds,
// though others have it: it routes to a queue whose process has ended. So a private queue is taken
// from its exchange before, and is deleted in so many words, which has it forgotten first.
func (c *consumer) stopConsuming(quiet func()) {
	if !c.sub.source.Private() {
		_ = c.ch.Cancel(c.tag, false) // fails only together with the channel
		return
	}
	if c.unbind() {
		quiet() // nothing more is received in any case
		sleep(c.sub.driver.ctx, unbindTime)
	}
	_, _ = c.ch.QueueDelete(c.queue, false, false, false)
}

// unbind takes a private queue from its exchange, and reports whether that has to take effect.
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
