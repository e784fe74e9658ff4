package patterns

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// soon is how long what is on its way from the broker is waited for.
const soon = 20 * time.Millisecond

// makeRoom sees to it that nothing is fetched that waits behind the message that w is about to
// handle alone: it would be lost with it. What is suspected, too, goes to the end of the queue,
// and all else comes next.
func (w *worker) makeRoom() {
	for range w.s.prefetch {
		ctx, cancel := context.WithTimeout(w.s.fetching, soon)
		err := w.fetchAhead(ctx)
		cancel()
		if err != nil {
			return
		}
	}
}

// keepRoom does as makeRoom while w handles a message alone, if nobody else would, until it is
// stopped.
func (w *worker) keepRoom() (stop func()) {
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
	if w.s.counts(&d) {
		if now, _ := w.screen(&d); !now { // nor alone, for w is
			return nil
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched = append(w.fetched, d)
	return nil
}

// next returns the next message for the worker.
func (w *worker) next() (adapters.Delivery, error) {
	for w.s.suspicious.Load() {
		d, ok := w.nextFetched()
		if !ok {
			break
		}
		switch {
		case d.Message.Context().Err() != nil: // it is delivered again
			w.s.survivors.note(d.Message.UUID)
		case w.s.fetching.Err() != nil:
			w.requeue(&d, ErrShutdown)
		default:
			return d, nil
		}
	}
	return w.s.receive(w.s.fetching)
}

func (w *worker) nextFetched() (d adapters.Delivery, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetched) == 0 {
		return d, false
	}
	d, w.fetched = w.fetched[0], w.fetched[1:]
	return d, true
}

func (s *Subscription) receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.driver.Receive(ctx)
	afresh(&d)
	return d, err
}

// giveBackSuspects sends what is suspected and was fetched in vain to the end of the queue, and
// the rest back to its place: given back by the driver a suspect would be counted, and nobody
// was lost.
func (s *Subscription) giveBackSuspects(sub adapters.Subscription) {
	all, cancel := context.WithTimeout(s.settling, time.Second)
	defer cancel()
	for range 2 * s.prefetch { // what is given back may come again
		ctx, cancel := context.WithTimeout(all, soon)
		d, err := sub.Receive(ctx)
		cancel()
		if err != nil {
			return
		}
		afresh(&d)
		outcome := adapters.Requeue
		back := d.Redelivered // it is to be counted, by whoever gets it next
		if d.Lost >= s.suspect() && !back && s.resendToQueue(all, &d, time.Second+rand.N(time.Second)) == nil {
			outcome = adapters.Ack
		}
		if err := d.Settle(all, outcome); err != nil {
			_ = s.stale(&d, err)
		}
		if back {
			return
		}
	}
}
