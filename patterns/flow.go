package patterns

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

// Pause stops fetching: what was fetched and not begun goes back to its queue, where others can
// have it, and handlers finish what they have. It returns once nothing is in hand; if ctx ends
// before, with ctx's error, and the subscription is paused all the same. So a handler that pauses
// its own subscription must not wait for itself, but give Pause a ctx that has ended.
//
// A private subscription, whose messages nobody else can have, and one with [OrderBy], where others
// would overtake them, keep what they have fetched, and handle that later. A subscription that is
// paused is not unready: see [StatePaused]. To pause one that is paused only waits, which ends with
// Resume, too, and one that has ended has nothing in hand.
func (s *Subscription) Pause(ctx context.Context) error {
	p := &pause{resumed: make(chan struct{}), stopped: make(chan struct{})}
	if s.flow.paused.CompareAndSwap(nil, p) {
		for _, w := range s.currentWorkers() {
			w.interrupt()
		}
		go s.stopFetching(p)
	}
	return s.flow.await(ctx, func() bool {
		return s.flow.paused.Load() == nil || s.hasEnded() || !s.anyWorker(workerFetches, workerDecides, workerBusy) && s.retries.count() == 0
	})
}

// Resume has a subscription that is paused fetch again. What is wrong with the queue by then ends
// the subscription, whose Wait returns it.
func (s *Subscription) Resume() {
	if p := s.flow.paused.Swap(nil); p != nil {
		close(p.resumed)
		s.flow.note()
	}
}

// SetWorkers changes how many messages are handled at a time. Where there are to be fewer, workers
// finish what they have. It is at least 1, and at most [Prefetch], or as many as the subscription
// began with, as messages are not fetched for more: else it is adapters.ErrInvalid. A subscription
// that is to have more workers later needs a Prefetch for them. After the end of the subscription
// it is adapters.ErrStopped.
//
// How long the broker is asked to let messages be held, for a [HandlerTimeout], is by the number of
// workers that the subscription began with. How many batches are handled at a time cannot be
// changed, nor what [WorkersBetween] changes, which is adapters.ErrInvalid, too.
func (s *Subscription) SetWorkers(n int) error { return s.opError(s.setWorkers(n)) }

func (s *Subscription) setWorkers(n int) error {
	switch {
	case s.gatherer != nil:
		return invalid("SetWorkers of a subscription that handles batches")
	case s.scaler != nil:
		return invalid("SetWorkers of a subscription with WorkersBetween")
	case n < 1:
		return invalid("SetWorkers(%d), at least 1 is needed: Pause has none work", n)
	case n > s.prefetch:
		return invalid("SetWorkers(%d) with a prefetch of %d, so that some could never work: Prefetch says how many there can be", n, s.prefetch)
	}
	err := s.resize(n)
	if c, ok := s.processor.(*callServer); ok && err == nil {
		c.workers.Store(int64(n))
	}
	return err
}

// resize is setWorkers without its checks.
func (s *Subscription) resize(n int) error {
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	if s.draining.Load() {
		return adapters.ErrStopped
	}
	working := 0
	for _, w := range s.workers {
		switch {
		case w.retired.Load():
		case working == n:
			w.retired.Store(true)
			w.interrupt()
		default:
			working++
		}
	}
	for ; working < n; working++ {
		w := &worker{s: s}
		s.workers = append(s.workers, w)
		s.live.Add(1)
		go w.run()
	}
	return nil
}

// flow is what pausing and resizing a subscription takes.
type flow struct {
	paused  atomic.Pointer[pause]         // nil while it is not
	stopped atomic.Bool                   // the driver's subscription is, by a pause
	emptied atomic.Pointer[chan struct{}] // not nil while one worker fetches what there is; see emptyPrefetch

	mu       sync.Mutex    // of Subscription.workers, and below
	changed  chan struct{} // see await
	stopping chan struct{} // closed once the last pause has given back what was fetched

	reopening sync.Mutex
}

// pause is one time that a subscription is paused.
type pause struct {
	resumed chan struct{}
	stopped chan struct{} // closed once what was fetched went back
}

// The states of a worker, but for those that are over.
const (
	workerFetches int32 = iota // it waits for a message
	workerDecides              // it has one that came back, and may send it on
	workerBusy                 // it handles one
	workerParked               // it waits for Resume
)

var errRetired = errors.New("motif: there are to be fewer workers")

// await waits until done, which is asked again whenever a worker does something else while the
// subscription is paused, or its prefetch emptied.
func (f *flow) await(ctx context.Context, done func() bool) error {
	for {
		f.mu.Lock()
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// note wakes those who await a change.
func (f *flow) note() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// currentWorkers returns the workers there are, those included that finish what they have.
func (s *Subscription) currentWorkers() []*worker {
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	return slices.Clone(s.workers)
}

// workerCount is how many workers there are to be.
func (s *Subscription) workerCount() (n int) {
	if s.gatherer != nil {
		return s.width
	}
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	for _, w := range s.workers {
		if !w.retired.Load() {
			n++
		}
	}
	return n
}

// anyWorker reports whether some worker is in one of these states.
func (s *Subscription) anyWorker(states ...int32) bool {
	return slices.ContainsFunc(s.currentWorkers(), func(w *worker) bool { return slices.Contains(states, w.state.Load()) })
}

func (s *Subscription) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// stopFetching gives back what was fetched, once no worker asks for more.
func (s *Subscription) stopFetching(p *pause) {
	defer close(p.stopped)
	s.flow.mu.Lock()
	before := s.flow.stopping
	s.flow.stopping = p.stopped
	s.flow.mu.Unlock()
	if before != nil {
		<-before
	}
	patience, cancel := context.WithTimeout(s.handling, fetchPatience)
	defer cancel()
	resumed := false
	_ = s.flow.await(patience, func() bool {
		resumed = s.flow.paused.Load() != p
		return resumed || !s.anyWorker(workerFetches)
	})
	sub := s.fetcher()
	switch gated, isGated := sub.(*gated); {
	case resumed:
	case isGated:
		gated.stopAhead()
	case s.queue != "" && s.order == nil:
		s.flow.stopped.Store(true)
		if s.hasSuspects.Load() {
			s.requeueSuspects(sub)
		}
		if err := sub.Stop(); err != nil {
			s.bus.log.Warn("motif: pausing a subscription", "queue", s.queue, "error", err)
		}
	}
}

// reopen subscribes again, if a pause has ended the driver's subscription.
func (s *Subscription) reopen(ctx context.Context) error {
	if !s.flow.stopped.Load() {
		return nil
	}
	s.flow.reopening.Lock()
	defer s.flow.reopening.Unlock()
	if !s.flow.stopped.Load() {
		return nil
	}
	sub, err := retryUnavailable(ctx, func(ctx context.Context) (adapters.Subscription, error) {
		return s.bus.driver.Subscribe(ctx, s.source)
	})
	if err != nil {
		return err
	}
	s.flow.mu.Lock()
	ends := s.draining.Load() // and stops the one before
	if !ends {
		s.driver.Store(&sub)
		s.flow.stopped.Store(false)
	}
	s.flow.mu.Unlock()
	if ends {
		return errors.Join(adapters.ErrStopped, sub.Stop())
	}
	return nil
}

// fetcher is the driver's subscription.
func (s *Subscription) fetcher() adapters.Subscription { return *s.driver.Load() }

// interrupt has the worker stop waiting for a message, if it does.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopWaiting != nil {
		w.stopWaiting()
	}
}

// receive returns the next message, once the subscription is not paused.
func (w *worker) receive() (adapters.Delivery, error) {
	s := w.s
	for {
		if err := w.ready(); err != nil {
			return adapters.Delivery{}, err
		}
		err := s.reopen(w.waiting)
		if err == nil {
			var d adapters.Delivery
			if d, err = s.receive(w.waiting); err == nil {
				if s.order == nil && s.countsLosses(&d) {
					w.become(workerDecides)
				} else {
					w.become(workerBusy)
				}
				if s.scaler != nil {
					s.scaler.received(w)
				}
				return d, nil
			}
		}
		switch {
		case s.fetching.Err() != nil:
			return adapters.Delivery{}, err
		case w.waiting.Err() != nil: // it was interrupted
		case errors.Is(err, adapters.ErrStopped) && s.flow.stopped.Load(): // by a pause that may be over
		default:
			return adapters.Delivery{}, err
		}
	}
}

// ready returns when the worker may wait for a message: not while the subscription is paused.
func (w *worker) ready() error {
	s := w.s
	if s.scaler != nil {
		s.scaler.waits(w)
	}
	for {
		if w.waiting == nil || w.waiting.Err() != nil {
			w.mu.Lock()
			w.waiting, w.stopWaiting = context.WithCancel(s.fetching)
			w.mu.Unlock()
		}
		w.state.Store(workerFetches)
		p, emptied := s.flow.paused.Load(), s.flow.emptied.Load()
		switch {
		case w.retired.Load():
			return errRetired
		case p == nil && emptied == nil:
			return nil
		}
		w.become(workerParked)
		if p == nil {
			if !w.awaitPause(*emptied) {
				return s.fetching.Err()
			}
			continue
		}
		if !w.awaitPause(p.resumed) || !w.awaitPause(p.stopped) {
			return s.fetching.Err()
		}
	}
}

// awaitPause waits, and reports whether the subscription goes on.
func (w *worker) awaitPause(until <-chan struct{}) bool {
	select {
	case <-until:
	case <-w.waiting.Done(): // it may be one too many
	}
	return w.s.fetching.Err() == nil
}

// become notes what the worker does now, for who waits for it.
func (w *worker) become(state int32) {
	w.state.Store(state)
	if f := &w.s.flow; f.paused.Load() != nil || f.emptied.Load() != nil {
		f.note()
	}
}

// retire ends a worker that is one too many.
func (w *worker) retire() {
	s := w.s
	w.interrupt()
	s.flow.mu.Lock()
	s.workers = slices.DeleteFunc(s.workers, func(other *worker) bool { return other == w })
	s.flow.mu.Unlock()
	s.flow.note()
	s.countOut()
}
