package history

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Op is what happened.
type Op uint8

const (
	PublishInvoke  Op = iota // a message is given to the driver
	PublishOK                // the broker has it
	PublishFail              // it certainly has not
	PublishUnknown           // it may have it
	Deliver                  // a message is received
	Settled                  // the driver took its outcome
	Unsettled                // it did not
	SessionEnd               // what was delivered in a session can no longer be settled
	Bind                     // a queue gets what is sent to an endpoint
	Unbind                   // and no longer does, for somebody took it away
	Crash                    // the broker lost its memory: what it says of redelivery may be wrong
	Left                     // a message was still in its queue at the end
	Returned                 // a call came back
)

// Event is one line of a history. Which fields mean something depends on Op.
type Event struct {
	At     time.Duration // since the history began
	Op     Op
	Client string

	ID      string // of the message
	Attempt int    // the same message with another attempt is another one
	To      adapters.Endpoint
	Key     string
	Queue   string
	Keys    []string // of a binding
	Dead    string   // of a binding: the queue's dead-letter queue

	Publish     uint64 // ties a publish to its outcome
	Droppable   bool   // of a publish: may be dropped with nobody to blame (TTL, transient)
	Delivery    uint64 // ties a delivery to its settling
	Session     uint64 // of a delivery
	Redelivered bool
	Outcome     adapters.Outcome // of Settled

	Call string        // of Returned: the method
	Over time.Duration // of Returned: how long after the end of its ctx
	Err  error
}

// Log is what all clients did and saw, in the order in which it was noticed.
// The zero value is empty and ready. Its methods may be called concurrently.
type Log struct {
	mu      sync.Mutex
	start   time.Time // of the first event or call
	events  []Event
	numbers uint64
	calls   map[uint64]string // that have not returned
	known   map[string]known  // by message id
	open    int               // ids confirmed and not acknowledged by anybody
	counts  [Returned + 1]int
	queues  []adapters.Source // see Queues
	changed chan struct{}     // closed at the next event; nil if nobody waits for one
}

type known struct{ confirmed, handled bool }

// New returns an empty log.
func New() *Log { return &Log{} }

// began makes the zero value ready; it is called with the lock held.
func (l *Log) began() {
	if l.start.IsZero() {
		l.start, l.calls, l.known = time.Now(), map[uint64]string{}, map[string]known{}
	}
}

// Add writes an event down.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began()
	e.At = time.Since(l.start)
	l.events = append(l.events, e)
	l.counts[e.Op]++
	l.follow(&e)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// follow keeps count of what is still to be handled.
func (l *Log) follow(e *Event) {
	was := l.known[e.ID]
	is := was
	switch {
	case e.Op == PublishOK && !e.Droppable:
		is.confirmed = true
	case e.Op == Settled && e.Outcome != adapters.Requeue:
		is.handled = true
	default:
		return
	}
	l.known[e.ID] = is
	if before, after := was.confirmed && !was.handled, is.confirmed && !is.handled; before != after {
		if after {
			l.open++
		} else {
			l.open--
		}
	}
}

// Number returns a new one, to tie events together with.
func (l *Log) Number() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.numbers++
	return l.numbers
}

// Check judges what was written down so far.
func (l *Log) Check() Verdict { return Check(l.Events(), l.Hanging()) }

// Events returns all events so far.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.events...)
}

// Count returns how many events of a kind there are.
func (l *Log) Count(op Op) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[op]
}

// Open returns how many messages are confirmed and not handled.
func (l *Log) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Wait waits until cond is true. It looks at it after each event, and now and then without one.
func (l *Log) Wait(ctx context.Context, cond func() bool) error {
	for !cond() {
		l.mu.Lock()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if cond() { // it became true before anybody could tell
			return nil
		}
		look := time.NewTimer(20 * time.Millisecond)
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			return ctx.Err()
		}
		look.Stop()
	}
	return nil
}

// Call notes that a method was called with ctx; what it returns is to be
// called when that has returned.
func (l *Log) Call(ctx context.Context, client, method string) func(error) {
	number := l.Number()
	l.mu.Lock()
	l.began()
	l.calls[number] = client + " " + method
	l.mu.Unlock()
	var ended time.Time
	var mu sync.Mutex
	note := func() {
		mu.Lock()
		defer mu.Unlock()
		ended = time.Now()
	}
	deadline, ok := ctx.Deadline()
	unhook := func() bool { return true }
	if !ok {
		unhook = context.AfterFunc(ctx, note)
	}
	return func(err error) {
		now := time.Now()
		unhook()
		l.mu.Lock()
		delete(l.calls, number)
		l.mu.Unlock()
		if ok && now.After(deadline) {
			ended = deadline
		}
		mu.Lock()
		over := time.Duration(0)
		if !ended.IsZero() {
			over = now.Sub(ended)
		}
		mu.Unlock()
		if over > 0 || err != nil {
			l.Add(Event{Op: Returned, Client: client, Call: method, Over: over, Err: err})
		}
	}
}

// Hanging lists the calls that have not returned.
func (l *Log) Hanging() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, call := range l.calls {
		list = append(list, call)
	}
	return list
}

func (op Op) String() string {
	names := [...]string{
		"publish-invoke", "publish-ok", "publish-fail", "publish-unknown", "deliver", "settled", "unsettled",
		"session-end", "bind", "unbind", "crash", "left", "returned",
	}
	if int(op) < len(names) {
		return names[op]
	}
	return fmt.Sprintf("op(%d)", uint8(op))
}
