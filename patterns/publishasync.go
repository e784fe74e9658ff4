package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Receipt is the outcome of an asynchronous publish, once it is known.
type Receipt struct {
	s           *sender
	ctx         publishContext // of handing it over
	observation *observation
	told        func(error) // what else is to be called with the outcome, or nil

	mu    sync.Mutex
	known bool
	err   error         // without what was published to
	done  chan struct{} // nil if nobody has waited: most who wait for one do not wait for the next
}

// Done is closed when the outcome is known.
func (r *Receipt) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.known {
			close(r.done)
		}
	}
	return r.done
}

// Wait returns the outcome, as the blocking verb would have. If ctx ends first, or it has no
// deadline and [PublishTimeout] is over, it returns an error that wraps ErrUnconfirmed and why; the
// publish goes on.
func (r *Receipt) Wait(ctx context.Context) error {
	if known, err := r.outcome(); known {
		return err
	}
	var wait publishContext
	wait.init(ctx, &r.s.bus.timeout)
	defer wait.end()
	select {
	case <-r.Done():
		_, err := r.outcome()
		return err
	case <-wait.Done():
		return r.s.publishError(fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, wait.Err()))
	}
}

func (r *Receipt) outcome() (known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known, r.s.publishError(r.err)
}

// cause is the error of the outcome that is known, as the driver had it.
func (r *Receipt) cause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// sendAsync blocks only for a place among the publishes in flight.
func (s *sender) sendAsync(ctx context.Context, key string, opts []PublishOption, value any) (*Receipt, error) {
	r, err := s.sendAsyncNow(ctx, key, opts, value)
	return r, s.publishError(err)
}

func (s *sender) sendAsyncNow(ctx context.Context, key string, opts []PublishOption, value any) (*Receipt, error) {
	cfg, err := s.configure(ctx, key, opts)
	if err == nil && storeOf(ctx) != nil {
		err = invalid("an asynchronous publish of a message that is stored: there is no publish confirm to wait for")
	}
	if err != nil {
		return nil, err
	}
	m, err := s.encodeOne(&cfg, value)
	if err == nil && cfg.waitForRoom {
		err = invalid("WaitForRoom with an asynchronous publish")
	}
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, cfg.p, m)
}

// begin begins to publish m. After an error nothing was sent.
func (s *sender) begin(ctx context.Context, p adapters.Publication, m *message.Message) (*Receipt, error) {
	r := &Receipt{s: s}
	if s.bus.hooks != nil {
		msgs := []*message.Message{m}
		r.observation = s.bus.hooks.observe(ctx, CausePublish, p, msgs)
		m = msgs[0]
	}
	if err := r.publish(ctx, p, m); err != nil {
		r.observation.end(err)
		return nil, err
	}
	return r, nil
}

// publish hands the message to the driver. After an error nothing was sent.
func (r *Receipt) publish(ctx context.Context, p adapters.Publication, m *message.Message) error {
	s := r.s
	r.ctx.init(ctx, &s.bus.timeout)
	defer r.ctx.end()
	if err := s.declare(&r.ctx); err != nil {
		return err
	}
	select {
	case s.bus.inFlight <- struct{}{}:
	default:
		select {
		case s.bus.inFlight <- struct{}{}:
		case <-r.ctx.Done():
			return fmt.Errorf("%w (%d are in flight)", r.ctx.Err(), cap(s.bus.inFlight))
		}
	}
	async, ok := s.bus.driver.(adapters.AsyncPublisher)
	if !ok {
		r.finish(singleError(s.bus.driver.Publish(&r.ctx, p, m))) // in order, at least
		return nil
	}
	err := async.PublishAsync(&r.ctx, p, m, r.finish)
	if err != nil {
		<-s.bus.inFlight
	}
	return err
}

// finish makes the outcome known.
func (r *Receipt) finish(err error) {
	s := r.s
	if err != nil {
		if s.source.Name != "" && errors.Is(err, adapters.ErrUnroutable) {
			s.bus.forget(s.source) // somebody deleted the queue: the next send declares it
		}
	}
	if r.observation.hasEnd() {
		go r.tellHooks(err) // this is the goroutine that reads
	} else {
		<-s.bus.inFlight
	}
	if r.told != nil {
		r.told(s.publishError(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.err = true, err
	if r.done != nil {
		close(r.done)
	}
}

// tellHooks tells the hooks of [OnPublish] the outcome. The publish keeps its place until they have
// heard it, so that no more goroutines do this than there may be publishes in flight.
func (r *Receipt) tellHooks(err error) {
	defer func() { <-r.s.bus.inFlight }()
	r.observation.end(err)
}
