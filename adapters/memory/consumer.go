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
	culprit *entry        // the message that it held for too long, which ended it

	gone bool  // nothing more is pushed or received; what is in hand may still be settled
	lost error // why not even that can be settled, or nil

	held   list   // unsettled, in the order of delivery: first those in hand and at hand,
	next   *entry // then, from here on, those not received yet
	n      int    // length of held
	parked []*waiter

	// atHand are what the next Receives get without the queue's lock, for which publishers contend.
	// Whoever holds both locks takes the queue's first.
	hand   sync.Mutex
	atHand []*entry // the next one is last

	spare sync.Pool // of waiters; not in the package, because a channel must not leave its synctest bubble
}

func newConsumer(q *queue, s *session) *consumer {
	c := &consumer{queue: q, session: s}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// waiter is a Receive that found nothing.
type waiter struct {
	got chan taken // of capacity 1
}

// taken is an entry on its way to its receiver, and whether it was delivered before. The zero value
// says that the consumer is gone.
type taken struct {
	entry       *entry
	redelivered bool
	returns     int // how often it was returned: see adapters.Delivery
	remaining   int
}

// taken is e on its way. The queue's lock is held, or e is at hand.
func (e *entry) taken() taken { return e.takenFrom(e.consumer.queue) }

// takenFrom is taken for an entry that nobody may hold.
func (e *entry) takenFrom(q *queue) taken {
	t := taken{entry: e, redelivered: e.returned, returns: e.returns}
	switch {
	case !e.returned: // or a restart has made the queue forget it
		t.returns = 0
	case q.ready.order == classic:
		t.returns = -1
	case e.returns == 0: // a dead letter, of which this queue has counted nothing yet
		t.returns = e.failed
	}
	return t
}

func (c *consumer) hasRoom() bool { return !c.gone && c.n < c.prefetch }

// batch is how many messages are put at hand at a time.
const batch = 32

// take returns the next message, or a waiter for it if there is none, or neither if there will be
// none.
func (c *consumer) take() (taken, *waiter) {
	c.hand.Lock()
	t := c.takeAtHand()
	c.hand.Unlock()
	if t.entry != nil {
		return t, nil
	}
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.hand.Lock()
	defer c.hand.Unlock()
	if len(c.atHand) == 0 { // else another Receive has seen to it
		c.reach()
	}
	if t = c.takeAtHand(); t.entry != nil || c.gone {
		return t, nil
	}
	w, _ := c.spare.Get().(*waiter)
	if w == nil {
		w = &waiter{got: make(chan taken, 1)}
	}
	c.parked = append(c.parked, w)
	return taken{}, w
}

func (c *consumer) takeAtHand() (t taken) {
	if last := len(c.atHand) - 1; last >= 0 {
		t = c.atHand[last].taken()
		c.atHand[last] = nil
		c.atHand = c.atHand[:last]
	}
	return t
}

// reach puts the next messages at hand. Both locks are held.
func (c *consumer) reach() {
	for ; c.next != nil && len(c.atHand) < batch; c.next = c.next.next {
		c.atHand = append(c.atHand, c.next)
	}
	slices.Reverse(c.atHand)
}

// unreceived returns what was not received, which can then no longer be received. The queue's lock
// is held.
func (c *consumer) unreceived() []*entry {
	c.hand.Lock()
	defer c.hand.Unlock()
	all := c.atHand
	c.atHand = nil
	slices.Reverse(all)
	for ; c.next != nil; c.next = c.next.next {
		all = append(all, c.next)
	}
	return all
}

// leave takes back w, whose Receive gives up. If a message came at the same moment, leave returns
// it.
func (c *consumer) leave(w *waiter) taken {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	if i := slices.Index(c.parked, w); i >= 0 {
		c.parked = slices.Delete(c.parked, i, i+1)
		return taken{}
	}
	return <-w.got
}

// push hands e to the consumer. The queue's lock is held, as below.
func (c *consumer) push(e *entry) {
	e.consumer, e.since = c, 0
	c.held.append(e)
	c.n++
	if last := len(c.parked) - 1; last >= 0 {
		// Nobody waits while there is something to receive, so e is the next. Who came last is
		// served first: its goroutine is the warmest.
		w := c.parked[last]
		c.parked = c.parked[:last]
		w.got <- e.taken()
	} else if c.next == nil {
		c.next = e
	}
}

// drop takes e, which is settled or given back, from the consumer.
func (c *consumer) drop(e *entry) {
	c.held.remove(e)
	c.n--
	e.consumer = nil
}

// end tells those who wait that nothing more will come.
func (c *consumer) end() {
	c.gone = true
	for _, w := range c.parked {
		w.got <- taken{}
	}
	c.parked = nil
}
