package patterns

import (
	"context"
	"errors"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// unexplainedReturns returns how many of d's returns to the queue may be losses of a worker.
func (s *Subscription) unexplainedReturns(d *adapters.Delivery) int {
	id := d.Message.UUID
	held := 0
	if s.stillHeld(id) { // by a worker that is about to note it
		held = 1
	}
	if d.Returned >= 0 {
		return max(0, d.Returned-max(0, s.knownReturns.count(id))-held)
	}
	// That it came back is all that is known: one known return explains it, and no other.
	if held > 0 || s.knownReturns.count(id) > 0 {
		s.knownReturns.add(id, -1)
		return 0
	}
	return 1
}

// knownReturns counts the returns of messages to their queue that were no loss of a worker: a
// worker of this process requeued them, or lost its connection and lives.
type knownReturns struct {
	mu      sync.Mutex
	returns map[string]int // by message id
}

func (k *knownReturns) note(id string) { k.add(id, 1) }

func (k *knownReturns) add(id string, n int) {
	if id == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.returns == nil || len(k.returns) >= maxKnownReturns {
		k.returns = make(map[string]int)
	}
	if k.returns[id] += n; k.returns[id] == 0 {
		delete(k.returns, id)
	}
}

// forget is for a message of which another copy is sent: its returns are counted from 0.
func (k *knownReturns) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.returns, id)
}

func (k *knownReturns) count(id string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.returns[id]
}

// stillHeld reports whether a worker of s has the message in hand that it got in a session that
// is over, for no fault of the message.
func (s *Subscription) stillHeld(id string) bool {
	for _, w := range s.currentWorkers() {
		if w.stillHolds(id) {
			return true
		}
	}
	return s.retries.stillHold(s.settling, id)
}

// lastMessage is what a worker has or had in hand, and the session in which it came.
type lastMessage struct {
	id      string
	settler adapters.Settler
	session context.Context
}

// stillHolds is stillHeld for one worker.
func (w *worker) stillHolds(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.isHeld(w.s.settling, id)
}

// isHeld reports whether it is the message, and its session is over for no fault of it.
func (m lastMessage) isHeld(ctx context.Context, id string) bool {
	if m.settler == nil || m.id != id || m.session.Err() == nil {
		return false
	}
	err := m.settler.Settle(ctx, adapters.Requeue) // which has no effect any more
	return !errors.Is(err, adapters.ErrConsumerTimeout)
}

func (w *worker) forgetLast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = lastMessage{}
}
