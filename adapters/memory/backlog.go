package memory

import "slices"

// backlog is the messages of a queue that are ready to be delivered.
type backlog struct {
	order    order   // for life, so it may be read without the lock of the queue
	requeued list    // requeued to a quorum queue, in that order: the next ones
	levels   []level // the others; only as many levels as were used
	turn     uint8   // with two levels: how many were taken since the oldest's last turn, at most 2
	n        int
}

// level is the ready messages of one priority. Those that were requeued to a classic queue are kept
// apart, because their places are before or among the others'.
type level struct {
	fresh    list
	requeued heap[*entry]
	gap      uint64 // unless 0, from this place on a classic queue marks nothing as redelivered: see leaveGap
}

// leaveGap notes that e is dropped in a restart before anybody got it. Before 4.3 a classic queue
// marks as redelivered what is before the next place that it has to deliver for the first time, and
// that one moves on only with the very message that has it. So it stays where e was, for good.
func (l *level) leaveGap(e *entry) {
	if l.gap == 0 || e.seq < l.gap {
		l.gap = e.seq + 1
	}
}

func (b *backlog) closeGaps() {
	for i := range b.levels {
		b.levels[i].gap = 0
	}
}

// marks reports whether e is marked as redelivered once it was delivered.
func (l *level) marks(e *entry) bool { return l.gap == 0 || e.seq < l.gap }

func (l *level) peek() *entry {
	e := l.fresh.head
	if len(l.requeued) > 0 && (e == nil || l.requeued[0].before(e)) {
		e = l.requeued[0]
	}
	return e
}

// pop removes e, which peek returned.
func (l *level) pop(e *entry) {
	if l.fresh.head == e {
		l.fresh.remove(e)
	} else {
		l.requeued.pop()
	}
}

func (b *backlog) level(n uint8) *level {
	for len(b.levels) <= int(n) {
		b.levels = append(b.levels, level{})
	}
	return &b.levels[n]
}

// add puts a new entry behind all others of its level.
func (b *backlog) add(e *entry) {
	b.level(e.level).fresh.append(e)
	b.n++
}

// requeue puts an entry back into its place.
func (b *backlog) requeue(e *entry) {
	e.returnCount++
	if l := b.level(e.level); b.order == classic {
		e.redelivered = l.marks(e)
		l.requeued.push(e)
	} else {
		e.redelivered = true
		b.requeued.append(e)
	}
	b.n++
}

// peek returns the next entry, or nil.
func (b *backlog) peek() *entry {
	switch {
	case b.n == 0:
		return nil
	case b.requeued.head != nil:
		return b.requeued.head
	case b.turn == lowTurn && len(b.levels) == 2:
		low, high := b.levels[0].fresh.head, b.levels[1].fresh.head
		if low != nil && (high == nil || low.before(high)) {
			return low
		}
	}
	for i := len(b.levels) - 1; ; i-- {
		if e := b.levels[i].peek(); e != nil {
			return e
		}
	}
}

// lowTurn is the turn at which the lower of two levels is not passed over.
const lowTurn = 2

// countTaken counts a new entry that was taken. RabbitMQ 4.0 counts them all, whether or
// not others wait.
func (b *backlog) countTaken() {
	if b.order != twoLevels {
		return
	}
	if b.turn++; b.turn > lowTurn {
		b.turn = 0
	}
}

// pop removes e, which peek or expiring returned.
func (b *backlog) pop(e *entry) {
	b.n--
	if b.requeued.head == e {
		b.requeued.remove(e)
		return
	}
	b.levels[e.level].pop(e)
	b.countTaken()
}

// expiring returns the entry that expires before all others that may, or nil: only the next one
// may, and with strict priorities the next one of each.
func (b *backlog) expiring() *entry {
	if b.order != strict {
		if e := b.peek(); e != nil && e.expires > 0 {
			return e
		}
		return nil
	}
	first := expiresFirst(nil, b.requeued.head)
	for i := len(b.levels) - 1; i >= 0; i-- {
		first = expiresFirst(first, b.levels[i].fresh.head)
	}
	return first
}

// expiresFirst returns the one of two that expires first, or nil if neither does.
func expiresFirst(a, b *entry) *entry {
	if b == nil || b.expires == 0 || a != nil && a.expires <= b.expires {
		return a
	}
	return b
}

// filter removes the entries that are not to be kept.
func (b *backlog) filter(keep func(*entry) bool) {
	old := *b
	old.levels = slices.Clone(b.levels)
	b.clear()
	b.turn = old.turn
	for e := old.requeued.head; e != nil; e = old.requeued.head {
		old.requeued.remove(e)
		if keep(e) { // which has been counted already
			b.requeued.append(e)
			b.n++
		}
	}
	for i := range old.levels {
		l := &old.levels[i]
		for e := l.peek(); e != nil; e = l.peek() {
			l.pop(e)
			if keep(e) {
				b.add(e) // the order is right: peek gave it
			}
		}
	}
}

// clear removes all. It leaves the order, which is read without a lock, and the gaps.
func (b *backlog) clear() {
	b.requeued, b.turn, b.n = list{}, 0, 0
	for i := range b.levels {
		b.levels[i].fresh, b.levels[i].requeued = list{}, nil
	}
}
