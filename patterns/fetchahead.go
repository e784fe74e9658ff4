package patterns

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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
// lost with it. It reports whether the broker knows what became of all of it, and of the original
// that the message is a copy of. Other suspects go to the end of the queue, and the rest is handled
// next.
//
// No other worker fetches meanwhile: of one that waits for a message it is not known whether it has
// just got one.
func (w *worker) emptyPrefetch() bool {
	s := w.s
	ctx, cancel := context.WithTimeout(s.fetching, fetchPatience)
	defer cancel()
	over := make(chan struct{})
	s.flow.emptied.Store(&over)
	defer func() { s.flow.emptied.Store(nil); close(over) }()
	others := slices.DeleteFunc(s.currentWorkers(), func(other *worker) bool { return other == w })
	for _, other := range others {
		other.interrupt()
	}
	undecided := func(other *worker) bool {
		state := other.state.Load()
		return state == workerFetches || state == workerDecides
	}
	err := s.flow.await(ctx, func() bool { return !slices.ContainsFunc(others, undecided) })
	for err == nil && w.fetchedCount() < s.prefetch {
		err = w.fetchAhead(ctx, s.tryReceive)
	}
	return ctx.Err() == nil || s.fetching.Err() != nil
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
			w.become(workerBusy)
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
