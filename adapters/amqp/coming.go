package amqp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// comingMessages are the messages that drivers of this process have delayed or given back to their
// queues, until they come from there: meanwhile no queue counts them, or not all the time. They are
// those of all drivers, because one may send what another receives.
var comingMessages = coming{messages: make(map[comingKey]*comingMessage)}

type coming struct {
	some     atomic.Bool // false if there are none
	mu       sync.Mutex
	messages map[comingKey]*comingMessage
}

// comingKey is what a message is recognized by.
type comingKey struct {
	to   string // its destination, as destinationOf has it
	id   string
	mark string // the end of its delay, as in headerUntil, or one of the following
}

const (
	givenBack = "given back" // it will be marked as redelivered
	rejected  = "rejected"   // it will be marked as a dead letter
)

// comingMessage is one message, or several with the same id.
type comingMessage struct {
	driver *Driver // whose it is
	copies int
	due    time.Time // when it comes, or begins to
	unsure bool      // its publish remained unconfirmed
	key    string    // for an exchange
	seen   []string  // the queues of an exchange that it came from
}

const (
	maxComing   = 10_000      // of a driver's messages, how many are counted
	forgetAfter = time.Minute // how long after its time a message is kept in mind if there is no room for others
)

// add is called before the broker hears of it.
func (cm *coming) add(key comingKey, m comingMessage) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	if known := cm.messages[key]; known != nil {
		known.copies++
		return
	}
	d := &m.driver.idle
	if d.coming >= maxComing && time.Since(d.pruned) > time.Second {
		d.pruned = time.Now()
		cm.remove(func(_ comingKey, other *comingMessage) bool {
			return other.driver == m.driver && time.Since(other.due) > forgetAfter
		})
	}
	if d.coming >= maxComing {
		if m.due.After(d.uncounted) {
			d.uncounted = m.due
		}
		return
	}
	m.copies = 1
	cm.messages[key] = &m
	d.coming++
	cm.some.Store(true)
}

// remove removes those that match. cm.mu is held.
func (cm *coming) remove(match func(comingKey, *comingMessage) bool) {
	for key, m := range cm.messages {
		if match(key, m) {
			m.driver.idle.coming--
			delete(cm.messages, key)
		}
	}
	cm.some.Store(len(cm.messages) > 0)
}

// came is called when one has come, or will not. cm.mu is held.
func (cm *coming) came(key comingKey) {
	m := cm.messages[key]
	if m == nil {
		return
	}
	if m.copies--; m.copies == 0 {
		m.driver.idle.coming--
		delete(cm.messages, key)
		cm.some.Store(len(cm.messages) > 0)
	}
}

// forget forgets the messages of a driver that is closed.
func (cm *coming) forget(d *Driver) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	cm.remove(func(_ comingKey, m *comingMessage) bool { return m.driver == d })
}

// expectDelayed is called before o, which is delayed, is written, and returns what to call with the
// outcome of that.
func (d *Driver) expectDelayed(o *outgoing) (published func(error)) {
	key := comingKey{destinationOf(o.p.To), o.message.UUID, o.until()}
	// A pointer in o.due would take the route of every publish to the heap.
	due := time.UnixMilli(o.due.UnixMilli())
	comingMessages.add(key, comingMessage{driver: d, due: due, key: o.p.Key})
	return func(err error) {
		if err == nil {
			return
		}
		comingMessages.mu.Lock()
		defer comingMessages.mu.Unlock()
		if m := comingMessages.messages[key]; m != nil && errors.Is(err, adapters.ErrUnconfirmed) {
			m.unsure = true
		} else {
			comingMessages.came(key)
		}
	}
}

func noCancel() {}

// expectSettled is called before a message with this header, which came from the queue of src, is
// settled with o: it may come again for that. It returns what to call if it was not settled.
func (d *Driver) expectSettled(src *adapters.Source, queue, header string, o adapters.Outcome) (cancel func()) {
	if o == adapters.Ack {
		return noCancel // and nothing is allocated
	}
	key := comingKey{to: toQueues + queue, mark: givenBack}
	switch {
	case o == adapters.Requeue && !src.Private():
	case o == adapters.Reject && src.Queue.DeadLetter != "":
		key.to, key.mark = toQueues+src.Queue.DeadLetter, rejected
	default:
		return noCancel
	}
	var received adapters.Delivery
	as := incoming{header: header} // a handler may have changed the message
	as.decode(&received)
	key.id = as.message.UUID
	comingMessages.add(key, comingMessage{driver: d, due: time.Now()})
	return func() {
		comingMessages.mu.Lock()
		defer comingMessages.mu.Unlock()
		comingMessages.came(key)
	}
}

// noteArrival is called for each message that is handed out. It came from src's queue. until is the
// end of its delay, or "".
func noteArrival(src *adapters.Source, queue string, in *incoming, until string) {
	isDead := in.message.Metadata[metadataFirstDeathQueue] != ""
	if until == "" && !in.redelivered && !isDead || !comingMessages.some.Load() {
		return
	}
	comingMessages.mu.Lock()
	defer comingMessages.mu.Unlock()
	to, id := toQueues+queue, in.message.UUID
	if until != "" {
		comingMessages.came(comingKey{to, id, until})
		if src.Kind.IsExchange() {
			m := comingMessages.messages[comingKey{toExchanges + src.Name, id, until}]
			if m != nil && !slices.Contains(m.seen, queue) {
				m.seen = append(m.seen, queue)
			}
		}
	}
	if in.redelivered {
		comingMessages.came(comingKey{to, id, givenBack})
	}
	if isDead {
		comingMessages.came(comingKey{to, id, rejected})
	}
}

// count says which messages of w's drivers are coming to queues that they consume.
func (cm *coming) count(w *idleWait, consumers []*consumer) (found []string) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	delayed, back := 0, 0
	for key, m := range cm.messages {
		if !slices.Contains(w.drivers, m.driver) || m.unsure && time.Now().After(m.due) || !w.consumes(consumers, key.to, m) {
			continue
		}
		if key.mark == givenBack || key.mark == rejected {
			back++
		} else {
			delayed++
		}
	}
	for _, d := range w.drivers {
		if time.Now().Before(d.idle.uncounted) {
			delayed++
		}
	}
	if delayed > 0 {
		found = append(found, fmt.Sprintf("%d delayed", delayed))
	}
	if back > 0 {
		found = append(found, fmt.Sprintf("%d given back to their queues", back))
	}
	return found
}

// consumes reports whether a message comes to w's drivers.
func (w *idleWait) consumes(consumers []*consumer, to string, m *comingMessage) bool {
	if queue, ok := strings.CutPrefix(to, toQueues); ok {
		return slices.Contains(w.queues, queue) || slices.ContainsFunc(consumers, func(c *consumer) bool { return c.queue == queue })
	}
	exchange := strings.TrimPrefix(to, toExchanges)
	return slices.ContainsFunc(consumers, func(c *consumer) bool {
		return c.sub.source.Kind.IsExchange() && c.sub.source.Name == exchange && c.gets(m)
	})
}

// gets reports whether a message that was delayed and comes to its exchange has yet to come from
// there to c's queue.
func (c *consumer) gets(m *comingMessage) bool {
	src, bound := c.sub.source, c.sub.began
	if src.Private() {
		bound = c.since
	}
	if bound.After(m.due) || slices.Contains(m.seen, c.queue) {
		return false
	}
	switch src.Kind {
	case adapters.Direct:
		return slices.Contains(src.Keys, m.key)
	case adapters.Topic:
		return slices.ContainsFunc(src.Keys, func(pattern string) bool { return adapters.MatchTopic(pattern, m.key) })
	}
	return true
}
