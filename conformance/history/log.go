package history

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

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
	counts  [ops]int
	changed chan struct{} // closed at the next event; nil if nobody waits for one
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

// Events returns all events so far. They are the log's own, and not to be
// changed.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.events) // what is added later is beyond its end
}

// now returns how many events there are.
func (l *Log) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

// Queues returns the durable queues that clients declared or subscribed to,
// each as it was declared first, and then the dead-letter queues among them
// that nobody declared: where something may be left at the end. Those that go with
// their last consumer are not among them. Prefetch is not set.
func (l *Log) Queues() []adapters.Source {
	var queues []adapters.Source
	place := map[string]int{}
	add := func(s adapters.Source) {
		i, known := place[s.QueueName()]
		switch {
		case !known:
			place[s.QueueName()] = len(queues)
			queues = append(queues, s)
		case queues[i].Passive && !s.Passive:
			queues[i] = s
		}
	}
	events := l.Events()
	temporary := map[string]bool{}
	for i := range events {
		if e := &events[i]; e.Op == Bind && e.Spec.AutoDelete {
			temporary[e.Queue] = true
		}
	}
	for i := range events {
		if e := &events[i]; e.Op == Bind && e.Err == nil && !temporary[e.Queue] {
			add(e.source())
		}
	}
	for i := range events {
		if e := &events[i]; e.Op == Bind && e.Err == nil && e.Spec.DeadLetter != "" {
			add(adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: e.Spec.DeadLetter}})
		}
	}
	return queues
}

// source is what a Bind event was made of.
func (e *Event) source() adapters.Source {
	s := adapters.Source{Endpoint: e.To, Keys: e.Keys, Queue: e.Spec, Passive: e.Passive}
	if e.To.Kind.IsExchange() {
		s.Group = strings.TrimPrefix(e.Queue, e.To.Name+":")
	}
	if s.QueueName() != e.Queue { // somebody else's, and named otherwise
		s = adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: e.Queue}, Passive: true}
	}
	return s
}

// Count returns how many events with an op there are.
func (l *Log) Count(op Op) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[op]
}

// Open returns how many messages are confirmed and neither acknowledged nor
// rejected by anybody. A system that is done has none.
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

// Hanging lists the calls that have not returned, as "client method".
func (l *Log) Hanging() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Values(l.calls))
}
