package memory

import "time"

// shorter returns the smaller of two limits, of which 0 means none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// expire buries what has expired, from the head on. An expired entry behind a living one waits
// until it gets to the head, as in RabbitMQ; it is never delivered. The queue's lock is held, here
// and below.
func (q *queue) expire() {
	for {
		e := q.ready.expiring()
		if e == nil || e.expires > q.broker.clock.now() {
			return
		}
		q.ready.pop(e)
		q.bury(e, diedExpired)
	}
}

// arm makes sure that what is next to expire is buried then. A timer that is set too early is left
// alone: that costs one look.
func (q *queue) arm() {
	e := q.ready.expiring()
	if e == nil || q.alarm != 0 && q.alarm <= e.expires {
		return
	}
	q.alarm = e.expires
	if wait := q.alarm - q.broker.clock.now(); q.timer == nil {
		q.timer = time.AfterFunc(wait, q.ring)
	} else {
		q.timer.Reset(wait)
	}
}

func (q *queue) disarm() {
	if q.timer != nil {
		q.timer.Stop()
	}
}

func (q *queue) ring() {
	q.mu.Lock()
	defer q.unlock()
	if q.gone {
		return
	}
	q.alarm = 0
	q.expire()
	q.arm()
}
