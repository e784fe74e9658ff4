package patterns

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// fetchGrace is how long to wait for what may be on its way from the broker.
const fetchGrace = 20 * time.Millisecond

// emptyPrefetch fetches what waits behind the message that w is about to handle alone, and would be
// lost with it. Other suspects go to the end of the queue, and the rest is handled next.
func (w *worker) emptyPrefetch() {
	for range w.s.prefetch {
		ctx, cancel := context.WithTimeout(w.s.fetching, fetchGrace)
		err := w.fetchAhead(ctx)
		cancel()
		if err != nil {
			return
		}
	}
}

// keepPrefetchEmpty goes on so while w handles the message, if there is no other worker to fetch,
// until it is stopped.
func (w *worker) keepPrefetchEmpty() (stop func()) {
	if len(w.s.workers) > 1 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(w.s.fetching)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		for w.fetchAhead(ctx) == nil {
		}
	})
	return func() { cancel(); keeper.Wait() }
}

// fetchAhead receives a message before its turn.
func (w *worker) fetchAhead(ctx context.Context) error {
	if g, ok := w.s.driver.(*gated); ok && !g.fetchesAhead() {
		return adapters.ErrEmpty
	}
	d, err := w.s.receive(ctx)
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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetchedAhead = append(w.fetchedAhead, d)
	return nil
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
	return w.s.receive(w.s.fetching)
}

func (w *worker) nextFetched() (d adapters.Delivery, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetchedAhead) == 0 {
		return d, false
	}
	d, w.fetchedAhead = w.fetchedAhead[0], w.fetchedAhead[1:]
	return d, true
}

func (s *Subscription) receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.driver.Receive(ctx)
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
		ctx, cancel := context.WithTimeout(all, fetchGrace)
		d, err := sub.Receive(ctx)
		cancel()
		if err != nil {
			return
		}
		resetAttempts(&d)
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
