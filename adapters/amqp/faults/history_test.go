package faults

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

// History is what all clients did and saw, in the order in which it was
// noticed. Its methods may be called concurrently.
type History struct {
	start time.Time

	mu      sync.Mutex
	events  []Event
	numbers uint64
	calls   map[uint64]string // that have not returned
	known   map[string]known  // by message id
	open    int               // ids confirmed and not acknowledged by anybody
	counts  [Returned + 1]int
	changed chan struct{} // closed at the next event; nil if nobody waits for one
}

type known struct{ confirmed, handled bool }

func NewHistory() *History {
	return &History{start: time.Now(), calls: map[uint64]string{}, known: map[string]known{}}
}

// Add writes an event down.
func (h *History) Add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.At = time.Since(h.start)
	h.events = append(h.events, e)
	h.counts[e.Op]++
	h.follow(&e)
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// follow keeps count of what is still to be handled.
func (h *History) follow(e *Event) {
	was := h.known[e.ID]
	is := was
	switch {
	case e.Op == PublishOK && !e.Droppable:
		is.confirmed = true
	case e.Op == Settled && e.Outcome != adapters.Requeue:
		is.handled = true
	default:
		return
	}
	h.known[e.ID] = is
	if before, after := was.confirmed && !was.handled, is.confirmed && !is.handled; before != after {
		if after {
			h.open++
		} else {
			h.open--
		}
	}
}

// Number returns a new one, to tie events together with.
func (h *History) Number() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.numbers++
	return h.numbers
}

// Events returns all events so far.
func (h *History) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Event(nil), h.events...)
}

// Count returns how many events of a kind there are.
func (h *History) Count(op Op) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[op]
}

// Open returns how many messages are confirmed and not handled.
func (h *History) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// Wait waits until cond is true. It looks at it after each event, and now and then without one.
func (h *History) Wait(ctx context.Context, cond func() bool) error {
	for !cond() {
		h.mu.Lock()
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
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
func (h *History) Call(ctx context.Context, client, method string) func(error) {
	number := h.Number()
	h.mu.Lock()
	h.calls[number] = client + " " + method
	h.mu.Unlock()
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
		h.mu.Lock()
		delete(h.calls, number)
		h.mu.Unlock()
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
			h.Add(Event{Op: Returned, Client: client, Call: method, Over: over, Err: err})
		}
	}
}

// Hanging lists the calls that have not returned.
func (h *History) Hanging() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, call := range h.calls {
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
