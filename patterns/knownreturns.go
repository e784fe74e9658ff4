package patterns

import (
	"context"
	"errors"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// blamed returns how many of its returns somebody is to blame d for.
func (s *Subscription) blamed(d *adapters.Delivery) int {
	id := d.Message.UUID
	held := 0
	if s.stillHeld(id) { // by a worker that is about to note it
		held = 1
	}
	if d.Returned >= 0 {
		return max(0, d.Returned-max(0, s.survivors.of(id))-held)
	}
	// That it came back is all that is known: what is forgiven now cannot be again.
	if held > 0 || s.survivors.of(id) > 0 {
		s.survivors.add(id, -1)
		return 0
	}
	return 1
}

// survivors are messages that came back though the worker that had them lives: it gave them
// back, or lost its connection. Nobody is to blame for these returns.
type survivors struct {
	mu      sync.Mutex
	returns map[string]int // by message id
}

func (v *survivors) note(id string) { v.add(id, 1) }

func (v *survivors) add(id string, n int) {
	if id == "" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.returns == nil || len(v.returns) >= maxSurvivors {
		v.returns = make(map[string]int)
	}
	if v.returns[id] += n; v.returns[id] == 0 {
		delete(v.returns, id)
	}
}

// forget is for a message of which another copy is sent: its returns are counted from 0.
func (v *survivors) forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.returns, id)
}

func (v *survivors) of(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.returns[id]
}

// stillHeld reports whether a worker of s has the message in hand that it got in a session that
// is over, for no fault of the message.
func (s *Subscription) stillHeld(id string) bool {
	for _, w := range s.workers {
		if w.outlives(id) {
			return true
		}
	}
	return false
}

// heldMessage is what a worker has or had in hand, and the session in which it came.
type heldMessage struct {
	id      string
	settler adapters.Settler
	session context.Context
}

func (w *worker) outlives(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held.settler == nil || w.held.id != id || w.held.session.Err() == nil {
		return false
	}
	err := w.held.settler.Settle(w.s.settling, adapters.Requeue) // which has no effect any more
	return !errors.Is(err, adapters.ErrConsumerTimeout)
}

func (w *worker) letGo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = heldMessage{}
}
