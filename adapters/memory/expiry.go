package memory

import "time"

// shorter returns the smaller of two limits, of which 0 means none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// expire drops or dead-letters what has expired, from the head on. An expired entry behind a living
// one waits until it gets to the head, as in RabbitMQ; it is never delivered. The queue's lock is
// held, here and below.
func (q *queue) expire() {
	for {
		e := q.ready.expiring()
		if e == nil || e.expires > q.broker.clock.now() {
			return
		}
		q.ready.pop(e)
		q.markDead(e, diedExpired)
	}
}

// armExpiry sets the timer for what is next to expire. One that is set too early is left alone,
// which costs one call for nothing.
func (q *queue) armExpiry() {
	e := q.ready.expiring()
	if e == nil || q.nextExpiry != 0 && q.nextExpiry <= e.expires {
		return
	}
	q.nextExpiry = e.expires
	if wait := q.nextExpiry - q.broker.clock.now(); q.expiryTimer == nil {
		q.expiryTimer = time.AfterFunc(wait, q.onExpiryTimer)
	} else {
		q.expiryTimer.Reset(wait)
	}
}

func (q *queue) stopExpiry() {
	if q.expiryTimer != nil {
		q.expiryTimer.Stop()
	}
}

func (q *queue) onExpiryTimer() {
	q.mu.Lock()
	defer q.unlock()
	if q.deleted {
		return
	}
	q.nextExpiry = 0
	q.expire()
	q.armExpiry()
}
