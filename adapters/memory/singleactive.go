package memory

import "slices"

// hasRoom reports whether c, one of the queue's consumers, gets the next message, or one of the
// next. The lock is held, here and below.
func (q *queue) hasRoom(c *consumer) bool {
	return c.hasRoom() && (!q.spec.SingleActive || c == q.active && !q.quiesces)
}

// activate chooses the consumer of a SingleActive queue that gets messages, after a change that may
// make it another one. The caller dispatches.
//
// As in RabbitMQ, a quorum queue knows precedence from 4.0 on: a consumer with a higher one than
// that of the active consumer takes its place, which gets nothing more before that, and waits
// behind all others afterwards. In a classic queue precedence counts once the active one has gone,
// and in a quorum queue of 3.10 not at all.
func (q *queue) activate() {
	if !q.spec.SingleActive {
		return
	}
	q.quiesces = false
	switch next := q.nextActive(); {
	case next == nil:
	case q.active == nil:
		q.active = next
	case q.ready.order == classic || next.sub.source.Precedence <= q.active.sub.source.Precedence:
	case q.active.unackedCount > 0:
		q.quiesces = true
	default:
		before := q.active
		i := slices.Index(q.consumers, before)
		q.consumers = append(slices.Delete(q.consumers, i, i+1), before)
		q.active = next
	}
	if q.withRoom = 0; q.active != nil && q.hasRoom(q.active) {
		q.withRoom = 1
	}
}

// nextActive returns the consumer that is to be the active one after the one that is, or nil.
func (q *queue) nextActive() (next *consumer) {
	for _, c := range q.consumers {
		switch {
		case c == q.active:
		case next == nil, q.ready.order != fifo && c.sub.source.Precedence > next.sub.source.Precedence:
			next = c
		}
		if next != nil && q.ready.order == fifo {
			if q.active != nil {
				return nil // it stays
			}
			return next
		}
	}
	return next
}
