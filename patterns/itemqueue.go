package patterns

// itemQueue is items in the order in which they are taken.
type itemQueue struct {
	items []*orderedItem
	taken int // of items
}

func (q *itemQueue) len() int { return len(q.items) - q.taken }

func (q *itemQueue) add(it *orderedItem) {
	if q.taken > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.taken:])
		clear(q.items[n:])
		q.items, q.taken = q.items[:n], 0
	}
	q.items = append(q.items, it)
}

func (q *itemQueue) peek() *orderedItem { return q.items[q.taken] }

func (q *itemQueue) take() *orderedItem {
	it := q.items[q.taken]
	q.items[q.taken] = nil
	if q.taken++; q.taken == len(q.items) {
		q.items, q.taken = q.items[:0], 0
	}
	return it
}

// itemList is items in order, of which any can be removed.
type itemList struct{ first, last *orderedItem }

func (l *itemList) append(it *orderedItem) {
	if it.prev = l.last; l.last == nil {
		l.first = it
	} else {
		l.last.next = it
	}
	l.last = it
}

// remove takes it out, which then leads to no other: whoever keeps one would keep all behind it.
func (l *itemList) remove(it *orderedItem) {
	if it.prev == nil {
		l.first = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.last = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}
