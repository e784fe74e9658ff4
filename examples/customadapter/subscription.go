//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// subscription pulls: a message is claimed when somebody waits for it, so that
// nothing is fetched ahead, and whoever is idle gets the next one.
type subscription struct {
	driver *driver
	source adapters.Source
	queue  queue
	hands  atomic.Int64
	look   chan struct{} // of capacity 1: there may be a message, or room for one

	mu    sync.Mutex      // held while looking, so that Stop waits for it
	ended context.Context // its cause is why
	end   context.CancelCauseFunc
}

func (d *driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := s.ValidateSubscribe(); err != nil {
		return nil, err
	}
	q, err := d.declare(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	defer d.files.RUnlock()
	sub := &subscription{driver: d, source: s, queue: q, look: make(chan struct{}, 1)}
	sub.ended, sub.end = context.WithCancelCause(d.closed)
	subscriptions.Store(sub, nil)
	d.watchers.Go(sub.watch)
	return sub, nil
}

// watch looks after the queue also while nobody waits in Receive.
func (s *subscription) watch() {
	defer subscriptions.Delete(s)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.driver.Declare(s.ended, s.source); err != nil {
				s.end(err) // it cannot be healed
			}
			s.wake()
		case <-s.ended.Done():
			return
		}
	}
}

func (s *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	for {
		d, err := s.next(ctx)
		if !errors.Is(err, adapters.ErrEmpty) {
			return d, err
		}
		select {
		case <-s.look:
		case <-s.ended.Done():
		case <-ctx.Done():
		}
	}
}

func (s *subscription) next(ctx context.Context) (d adapters.Delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(context.Cause(s.driver.closed), context.Cause(s.ended), ctx.Err()); err != nil {
		return d, err
	}
	if s.hands.Load() >= int64(s.source.Prefetch) {
		return d, adapters.ErrEmpty
	}
	d, err = s.driver.take(ctx, s.queue, &s.hands)
	if errors.Is(err, adapters.ErrNotFound) {
		return d, adapters.ErrEmpty // watch declares it again
	}
	if err == nil {
		s.wake() // others in Receive: there may be more
	}
	return d, err
}

func (s *subscription) Stop() error {
	s.end(adapters.ErrStopped)
	s.mu.Lock() // whoever looks has come back
	defer s.mu.Unlock()
	return nil
}

func (s *subscription) Address() string { return s.source.Name }

func (s *subscription) wake() {
	select {
	case s.look <- struct{}{}:
	default: // somebody is about to look
	}
}

// subscriptions are those of this process, which need not poll for each other.
var subscriptions registry

type registry struct{ sync.Map } // of *subscription

func (r *registry) wake(q queue) {
	for s := range r.Range {
		if s := s.(*subscription); s.queue == q {
			s.wake()
		}
	}
}
