package memory

import (
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// queue keeps entries until consumers settle them, and pushes them to consumers that have room as
// soon as it can. While one has room nothing is ready, except, for a moment, what was requeued.
type queue struct {
	broker *Broker
	name   string
	spec   adapters.QueueSpec

	// temporary queues go with their last consumer: private and auto-delete
	// ones. What is in a private queue never survives a restart.
	temporary bool
	bindings  map[binding]struct{} // under the broker's control lock

	mu        sync.Mutex
	deleted   bool // it takes nothing, and settling what is in hand has no effect
	purged    bool // since the last restart, while nobody held a message of it
	ready     backlog
	seq       uint64
	unacked   int
	consumers []*consumer
	turn      int       // index of the consumer whose turn it is
	withRoom  int       // consumers that have room
	active    *consumer // the one that gets messages, if the queue is SingleActive

	dead        []deadEntry // to be dead-lettered once the lock is released
	expiryTimer *time.Timer // for the expiry of the next entry
	nextExpiry  time.Duration

	timeoutArmed bool // for messages that are held for too long
	timeoutTimer *time.Timer
}

// unlock releases the lock, and then sends off what died meanwhile: two queues are never locked at
// once.
func (q *queue) unlock() {
	dead, idle := q.dead, &q.broker.idle
	q.dead = nil
	if len(dead) > 0 {
		idle.moving.Add(1)
	}
	q.mu.Unlock()
	for _, d := range dead {
		q.broker.deadLetter(d, q)
	}
	if len(dead) > 0 {
		idle.moving.Add(-1)
	}
	idle.note()
}

// put adds a new entry at the tail. It returns ErrNacked if there is no room for it, and
// ErrUnroutable if the queue was deleted since it was looked up.
func (q *queue) put(e *entry) error {
	if ttl := shorter(e.ttl(), q.spec.MessageTTL); ttl > 0 {
		e.expires = q.broker.clock.after(ttl)
	}
	q.mu.Lock()
	defer q.unlock()
	if q.deleted {
		return adapters.ErrUnroutable
	}
	e.seq = q.seq
	q.seq++
	e.level = q.ready.order.level(e.priority, q.spec.MaxPriority)
	if q.withRoom > 0 && q.ready.n == 0 {
		q.ready.countTaken()
		e.redelivered = e.redelivered && q.ready.order != classic // which looks only at what waited
		q.deliver(e)
		return nil
	}
	q.expire()
	full := q.withRoom == 0 && q.spec.MaxLength > 0 && q.ready.n >= q.spec.MaxLength
	if full && q.spec.Overflow == adapters.RejectPublish {
		return adapters.ErrNacked
	}
	q.ready.add(e)
	if full {
		q.trim()
	}
	q.armExpiry()
	return nil
}

// trim dead-letters what exceeds the limit of a queue that drops its head. That is not the oldest
// message if that has a lower priority, as in RabbitMQ.
func (q *queue) trim() {
	for q.spec.Overflow == adapters.DropHead && q.spec.MaxLength > 0 && q.ready.n > q.spec.MaxLength {
		head := q.ready.peek()
		q.ready.pop(head)
		q.markDead(head, diedOverflow)
		q.expire()
	}
}

// deliver pushes e to the next consumer with room, of which there is one. The lock is held, here
// and below.
func (q *queue) deliver(e *entry) {
	for {
		if q.turn >= len(q.consumers) {
			q.turn = 0
		}
		c := q.consumers[q.turn]
		q.turn++
		if q.hasRoom(c) {
			c.push(e)
			q.unacked++
			q.armTimeoutCheck(c)
			if !q.hasRoom(c) {
				q.withRoom--
			}
			return
		}
	}
}

// dispatch delivers what is ready to consumers with room. It must be called after every change that
// may allow that.
func (q *queue) dispatch() {
	if q.deleted {
		return
	}
	if q.ready.order == classic {
		q.trim() // what was requeued, before it is delivered
	}
	for q.expire(); q.ready.n > 0 && q.withRoom > 0; q.expire() {
		head := q.ready.peek()
		q.ready.pop(head)
		q.deliver(head)
	}
	q.trim()
	q.armExpiry()
}

// get takes the next message for c, which is not one of the queue's consumers.
func (q *queue) get(c *consumer) (t dequeued) {
	q.mu.Lock()
	defer q.unlock()
	q.expire()
	head := q.ready.peek()
	if head == nil {
		return t
	}
	q.ready.pop(head)
	q.unacked++
	c.push(head)
	c.firstUnreceived = nil // it is in hand
	q.expire()
	q.armExpiry()
	t = head.dequeued()
	t.remaining = q.ready.n
	return t
}

// release takes e from the consumer that holds it.
func (q *queue) release(e *entry) {
	c := e.consumer
	had := q.hasRoom(c)
	c.drop(e)
	q.unacked--
	if !had && q.hasRoom(c) {
		q.withRoom++
	}
}

// requeue puts e, which a consumer holds, back into its place.
func (q *queue) requeue(e *entry) {
	q.release(e)
	q.ready.requeue(e)
}

func (q *queue) attach(c *consumer) {
	q.mu.Lock()
	defer q.unlock()
	q.consumers = append(q.consumers, c)
	if q.activate(); q.hasRoom(c) {
		q.withRoom++
	}
	q.dispatch()
}

// detach ends c and requeues what it has not received. The caller dispatches once everything that
// has to be detached is.
func (q *queue) detach(c *consumer) {
	q.remove(c)
	for _, e := range c.unreceived() {
		q.requeue(e)
	}
}

// remove ends c, and leaves what it holds alone.
func (q *queue) remove(c *consumer) {
	if i := slices.Index(q.consumers, c); i >= 0 {
		if q.hasRoom(c) {
			q.withRoom--
		}
		q.consumers = slices.Delete(q.consumers, i, i+1)
		if i < q.turn {
			q.turn--
		}
		if c == q.active {
			q.active = nil
			if q.activate(); q.active != nil {
				q.withRoom++
			}
		}
	}
	c.end()
}

// detachLost is detach for a lost session: what is in hand is requeued, too.
func (q *queue) detachLost(c *consumer, why error) {
	q.remove(c)
	c.unreceived()
	c.lost = why
	for c.unacked.head != nil { // in the order of delivery
		c.unacked.head.failedDeliveries++
		q.requeue(c.unacked.head)
	}
}

// drop removes everything that is ready, and returns how many messages that was.
func (q *queue) drop() int {
	n := q.ready.n
	q.ready.clear()
	return n
}

// delete ends the queue, its consumers, and what is in it.
func (q *queue) delete() {
	for _, c := range q.consumers {
		c.end()
		for _, e := range c.unreceived() {
			q.release(e)
		}
	}
	q.consumers, q.withRoom, q.active = nil, 0, nil
	q.deleted = true
	q.drop()
	q.stopExpiry()
	if q.timeoutTimer != nil {
		q.timeoutTimer.Stop()
	}
}
