package patterns

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// fetchGrace is how long to wait for what may be on its way from the broker, where the adapter
// cannot tell: see [adapters.TryReceiver].
const fetchGrace = 20 * time.Millisecond

// fetchPatience is how long to wait for it where the adapter can tell.
const fetchPatience = 10 * time.Second

// emptyPrefetch fetches what waits behind the message that w is about to handle alone, and would be
// lost with it, and waits until the broker knows what became of it. Other suspects go to the end of
// the queue, and the rest is handled next.
func (w *worker) emptyPrefetch() {
	ctx, cancel := context.WithTimeout(w.s.fetching, fetchPatience)
	defer cancel()
	for ctx.Err() == nil {
		ended := w.s.moves.endedCount()
		for w.fetchedCount() < w.s.prefetch {
			err := w.fetchAhead(ctx, w.s.tryReceive)
			if errors.Is(err, adapters.ErrEmpty) {
				break
			}
			if err != nil {
				return
			}
		}
		if w.s.moves.await(ctx) == ended {
			return
		} // else the broker may not know yet what has moved, and when it does it sends more
	}
}

// tryReceive is receive for what is on its way from the broker: it returns ErrEmpty if nothing is.
func (s *Subscription) tryReceive(ctx context.Context) (adapters.Delivery, error) {
	return tryReceive(ctx, s.fetcher())
}

func tryReceive(ctx context.Context, sub adapters.Subscription) (d adapters.Delivery, err error) {
	tr, ok := sub.(adapters.TryReceiver)
	if ok {
		d, err = tr.TryReceive(ctx)
	}
	if !ok || errors.Is(err, adapters.ErrUnsupported) {
		short, cancel := context.WithTimeout(ctx, fetchGrace)
		defer cancel()
		if d, err = sub.Receive(short); err != nil && short.Err() != nil && ctx.Err() == nil {
			err = adapters.ErrEmpty
		}
	}
	resetAttempts(&d)
	return d, err
}

// moves counts the messages that workers send to the end of the queue. While that goes on they are
// in this process's hands.
type moves struct {
	mu           sync.Mutex
	begun, ended int
	idle         chan struct{} // closed when none is under way; nil if none is
}

// begin is called before one is sent, and what it returns once it is acknowledged, or is not.
func (m *moves) begin() (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun++; m.idle == nil {
		m.idle = make(chan struct{})
	}
	return m.end
}

func (m *moves) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended++; m.ended == m.begun {
		close(m.idle)
		m.idle = nil
	}
}

func (m *moves) endedCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// await waits until none is under way, or ctx ends, and returns how many have begun.
func (m *moves) await(ctx context.Context) int {
	m.mu.Lock()
	idle := m.idle
	m.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun
}

// keepPrefetchEmpty goes on so while w handles the message, if there is no other worker to fetch,
// until it is stopped.
func (w *worker) keepPrefetchEmpty() (stop func()) {
	if w.s.workerCount() > 1 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(w.s.fetching)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		for w.fetchAhead(ctx, w.s.receive) == nil {
		}
	})
	return func() { cancel(); keeper.Wait() }
}

// fetchAhead receives a message before its turn.
func (w *worker) fetchAhead(ctx context.Context, receive func(context.Context) (adapters.Delivery, error)) error {
	if g, ok := w.s.fetcher().(*gated); ok && !g.fetchesAhead() {
		return adapters.ErrEmpty
	}
	d, err := receive(ctx)
	if err != nil {
		return err
	}
	if w.s.countsLosses(&d) {
		beside := &worker{s: w.s, ctx: w.ctx, session: w.session} // the times of w are those of what it has in hand
		now := false
		apart(func() { now, _ = beside.checkLosses(&d) }) // nor alone, for w is
		if !now {
			return nil
		}
	}
	w = w.keeper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetchedAhead = append(w.fetchedAhead, d)
	return nil
}

// keeper returns the worker that keeps what w fetches ahead. Where batches are gathered it is one
// for all: or those messages would each wait for another batch.
func (w *worker) keeper() *worker {
	if w.s.gatherer != nil {
		return w.s.workers[0]
	}
	return w
}

// next returns the next message for the worker.
func (w *worker) next() (adapters.Delivery, error) {
	for w.s.hasSuspects.Load() {
		d, ok := w.nextFetched()
		if !ok {
			break
		}
		switch {
		case d.Message.Context().Err() != nil: // it is delivered again
			w.s.knownReturns.note(d.Message.UUID)
			w.times = times{} // which are those of the message before
			apart(func() { w.settled(&d, ResultStale, adapters.ErrStaleDelivery, 0) })
		case w.s.fetching.Err() != nil:
			w.times = times{}
			apart(func() { w.requeue(&d, ErrShutdown) })
		default:
			return d, nil
		}
	}
	return w.receive()
}

func (w *worker) fetchedCount() int {
	w = w.keeper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.fetchedAhead)
}

func (w *worker) nextFetched() (d adapters.Delivery, ok bool) {
	w = w.keeper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetchedAhead) == 0 {
		return d, false
	}
	d, w.fetchedAhead = w.fetchedAhead[0], w.fetchedAhead[1:]
	return d, true
}

func (s *Subscription) receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.fetcher().Receive(ctx)
	resetAttempts(&d)
	return d, err
}

// requeueSuspects sends the suspects among what was fetched and not handled to the end of the
// queue, and requeues the rest: a suspect that the driver requeues would be counted, though no
// worker was lost.
func (s *Subscription) requeueSuspects(sub adapters.Subscription) {
	all, cancel := context.WithTimeout(s.settling, time.Second)
	defer cancel()
	for range 2 * s.prefetch { // what is given back may come again
		d, err := tryReceive(all, sub)
		if err != nil {
			return
		}
		outcome := adapters.Requeue
		back := d.Redelivered // it is to be counted, by whoever gets it next
		if d.Lost >= s.suspectLimit() && !back && s.resendToQueue(all, &d, time.Second+rand.N(time.Second)) == nil {
			outcome = adapters.Ack
		}
		if err := d.Settle(all, outcome); err != nil {
			_ = s.noteStale(&d, err)
		}
		if back {
			return
		}
	}
}
