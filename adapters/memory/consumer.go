package memory

import (
	"context"
	"slices"
	"sync"
	"time"
)

// consumer is one subscription's hold on one queue in one session: when any of the three changes
// there is a new consumer. Its fields are guarded by the queue's lock.
type consumer struct {
	queue    *queue
	session  *session
	sub      *subscription // nil for a Get
	prefetch int

	ctx    context.Context // of all messages that it delivers
	cancel context.CancelCauseFunc

	timeout time.Duration // how long it may hold a message; 0 if that is not limited
	overdue *entry        // the message that it held for too long, for which it was ended
	limit   *time.Timer   // of a Get, which has one message: ends it; nil if that is not limited

	stopped bool  // nothing more is pushed or received; what is in hand may still be settled
	lost    error // why not even that can be settled, or nil

	unacked         list   // in the order of delivery: first those that were received or are in buffer,
	firstUnreceived *entry // then, from here on, those not received yet
	unackedCount    int    // length of unacked
	waiting         []*waiter

	// buffer is what the next Receives get without the queue's lock, for which publishers contend.
	// Whoever holds both locks takes the queue's first.
	bufferMu sync.Mutex
	buffer   []*entry // the next one is last

	waiterPool sync.Pool // of waiters; not in the package, because a channel must not leave its synctest bubble
}

func newConsumer(q *queue, s *session) *consumer {
	c := &consumer{queue: q, session: s}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// waiter is a Receive that found nothing.
type waiter struct {
	got chan dequeued // of capacity 1
}

// dequeued is an entry on its way to its receiver, and whether it was delivered before. The zero
// value says that the consumer is gone.
type dequeued struct {
	entry       *entry
	redelivered bool
	returns     int // how often it was returned: see adapters.Delivery
	remaining   int
}

// dequeued is e on its way. The queue's lock is held, or e is in the buffer.
func (e *entry) dequeued() dequeued { return e.dequeuedFrom(e.consumer.queue) }

// dequeuedFrom is dequeued for an entry that nobody may hold.
func (e *entry) dequeuedFrom(q *queue) dequeued {
	t := dequeued{entry: e, redelivered: e.redelivered, returns: e.returnCount}
	switch {
	case !e.redelivered: // or a restart has made the queue forget it
		t.returns = 0
	case q.ready.order == classic:
		t.returns = -1
	case e.returnCount == 0: // a dead letter, of which this queue has counted nothing yet
		t.returns = e.failedDeliveries
	}
	return t
}

func (c *consumer) hasRoom() bool { return !c.stopped && c.unackedCount < c.prefetch }

// bufferSize is how many messages are put into the buffer at a time.
const bufferSize = 32

// take returns the next message, or a waiter for it if there is none, or neither if there will be
// none.
func (c *consumer) take() (dequeued, *waiter) {
	c.bufferMu.Lock()
	t := c.takeBuffered()
	c.bufferMu.Unlock()
	if t.entry != nil {
		return t, nil
	}
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.bufferMu.Lock()
	defer c.bufferMu.Unlock()
	if len(c.buffer) == 0 { // else another Receive has filled it
		c.fillBuffer()
	}
	if t = c.takeBuffered(); t.entry != nil || c.stopped {
		return t, nil
	}
	w, _ := c.waiterPool.Get().(*waiter)
	if w == nil {
		w = &waiter{got: make(chan dequeued, 1)}
	}
	c.waiting = append(c.waiting, w)
	return dequeued{}, w
}

func (c *consumer) takeBuffered() (t dequeued) {
	if last := len(c.buffer) - 1; last >= 0 {
		t = c.buffer[last].dequeued()
		c.buffer[last] = nil
		c.buffer = c.buffer[:last]
	}
	return t
}

// fillBuffer puts the next messages into the buffer. Both locks are held.
func (c *consumer) fillBuffer() {
	for ; c.firstUnreceived != nil && len(c.buffer) < bufferSize; c.firstUnreceived = c.firstUnreceived.next {
		c.buffer = append(c.buffer, c.firstUnreceived)
	}
	slices.Reverse(c.buffer)
}

// unreceived returns what was not received, which can then no longer be received. The queue's lock
// is held.
func (c *consumer) unreceived() []*entry {
	c.bufferMu.Lock()
	defer c.bufferMu.Unlock()
	all := c.buffer
	c.buffer = nil
	slices.Reverse(all)
	for ; c.firstUnreceived != nil; c.firstUnreceived = c.firstUnreceived.next {
		all = append(all, c.firstUnreceived)
	}
	return all
}

// cancelWait withdraws w, whose Receive gives up. If a message came at the same moment, cancelWait
// returns it.
func (c *consumer) cancelWait(w *waiter) dequeued {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	if i := slices.Index(c.waiting, w); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return dequeued{}
	}
	return <-w.got
}

// push hands e to the consumer. The queue's lock is held, as below.
func (c *consumer) push(e *entry) {
	e.consumer, e.heldSince = c, 0
	c.unacked.append(e)
	c.unackedCount++
	if last := len(c.waiting) - 1; last >= 0 {
		// Nobody waits while there is something to receive, so e is the next. Who came last is
		// served first: its goroutine is the warmest.
		w := c.waiting[last]
		c.waiting = c.waiting[:last]
		w.got <- e.dequeued()
	} else if c.firstUnreceived == nil {
		c.firstUnreceived = e
	}
}

// drop takes e, which is settled or given back, from the consumer.
func (c *consumer) drop(e *entry) {
	c.unacked.remove(e)
	c.unackedCount--
	e.consumer = nil
}

// end wakes those who wait, and stops the timer: nothing more will come.
func (c *consumer) end() {
	c.stopped = true
	if c.limit != nil {
		c.limit.Stop()
	}
	for _, w := range c.waiting {
		w.got <- dequeued{}
	}
	c.waiting = nil
}
