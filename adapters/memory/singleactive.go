package memory

// hasRoom reports whether c, one of the queue's consumers, gets the next message, or one of the
// next. The lock is held, here and below.
func (q *queue) hasRoom(c *consumer) bool {
	return c.hasRoom() && (!q.spec.SingleActive || c == q.active)
}

// activate chooses the consumer of a SingleActive queue that gets messages, if there is none: the
// one that has waited for longest.
func (q *queue) activate() {
	if q.spec.SingleActive && q.active == nil && len(q.consumers) > 0 {
		q.active = q.consumers[0]
	}
}
