package memory

import "time"

// shorter returns the smaller of two limits, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// expire buries what has expired, from the head on. An expired entry behind a
// living one waits until it gets to the head, as in RabbitMQ's classic queues;
// it is never delivered. The queue's lock is held, here and below.
func (q *queue) expire() {
	for {
		head := q.ready.peek()
		if head == nil || head.expires == 0 || head.expires > q.broker.clock.now() {
			return
		}
		q.ready.pop(head)
		q.bury(head, diedExpired)
	}
}

// arm sees to it that the head of the queue is buried when it expires. A timer
// that is set too early is left alone: it costs one look.
func (q *queue) arm() {
	head := q.ready.peek()
	if head == nil || head.expires == 0 || q.alarm != 0 && q.alarm <= head.expires {
		return
	}
	q.alarm = head.expires
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
