package memory

// backlog is the messages of a queue that are ready to be delivered: the
// highest priority first, and in the order of their places inside one priority.
type backlog struct {
	levels []level // by priority; only as many as were used
	n      int
}

// level is the ready messages of one priority. Those that were given back are
// kept apart, because their places are before or among the others'.
type level struct {
	fresh list
	back  heap[*entry]
}

func (l *level) peek() *entry {
	e := l.fresh.head
	if len(l.back) > 0 && (e == nil || l.back[0].before(e)) {
		e = l.back[0]
	}
	return e
}

func (b *backlog) level(priority uint8) *level {
	for len(b.levels) <= int(priority) {
		b.levels = append(b.levels, level{})
	}
	return &b.levels[priority]
}

// add puts a new entry behind all others of its priority.
func (b *backlog) add(e *entry) {
	b.level(e.priority).fresh.append(e)
	b.n++
}

// giveBack puts an entry back into the place that it had.
func (b *backlog) giveBack(e *entry) {
	e.returned = true
	b.level(e.priority).back.push(e)
	b.n++
}

// peek returns the next entry, or nil.
func (b *backlog) peek() *entry {
	if b.n == 0 {
		return nil
	}
	for i := len(b.levels) - 1; ; i-- {
		if e := b.levels[i].peek(); e != nil {
			return e
		}
	}
}

// pop removes e, which peek returned.
func (b *backlog) pop(e *entry) {
	l := &b.levels[e.priority]
	if l.fresh.head == e {
		l.fresh.remove(e)
	} else {
		l.back.pop()
	}
	b.n--
}

// keep removes the entries that are not to be kept.
func (b *backlog) keep(keep func(*entry) bool) {
	old := *b
	*b = backlog{}
	for e := old.peek(); e != nil; e = old.peek() {
		old.pop(e)
		if keep(e) {
			b.add(e) // the order is right: peek gave it
		}
	}
}
