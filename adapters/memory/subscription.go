package memory

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// subscription is a subscription of the seam. It outlives its consumers.
type subscription struct {
	client  *Client
	source  adapters.Source
	current atomic.Pointer[consumer]

	// Guarded by the broker's control lock:
	err          error           // why it ended
	restoring    context.Context // not nil while there is no consumer; ends when there is one, or err is set
	endRestoring context.CancelFunc
}

var (
	_ adapters.TryReceiver = (*subscription)(nil)
	_ adapters.Returner    = (*subscription)(nil)
)

func newSubscription(c *Client, s adapters.Source) *subscription {
	s.Keys = slices.Clone(s.Keys)
	return &subscription{client: c, source: s}
}

// Receive implements [adapters.Subscription].
func (s *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return adapters.Delivery{}, fmt.Errorf("memory: receive: %w", err)
		}
		c := s.current.Load()
		t, w := c.take()
		if w != nil {
			t = c.wait(ctx, w)
		}
		if t.entry == nil {
			if err := s.awaitConsumer(ctx, c); err != nil {
				return adapters.Delivery{}, err
			}
			continue
		}
		d := c.receive(t)
		if f := s.client.broker.faults.hit(OnDeliver, c.queue.name, s.source.Name); f != nil && s.fail(ctx, f, d) {
			continue // to find out why
		}
		return d, nil
	}
}

// TryReceive implements [adapters.TryReceiver]. What a queue gives a subscription is there at once,
// unless a [Fault] delays it.
func (s *subscription) TryReceive(ctx context.Context) (adapters.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return adapters.Delivery{}, fmt.Errorf("memory: receive: %w", err)
		}
		c := s.current.Load()
		t, w := c.take()
		if w != nil {
			t = c.cancelWait(w)
			c.waiterPool.Put(w)
		}
		if t.entry == nil {
			return adapters.Delivery{}, s.emptyOrEnded()
		}
		d := c.receive(t)
		if f := s.client.broker.faults.hit(OnDeliver, c.queue.name, s.source.Name); f == nil || !s.fail(ctx, f, d) {
			return d, nil
		}
	}
}

// emptyOrEnded returns why the subscription has ended, or ErrEmpty if it has not.
func (s *subscription) emptyOrEnded() error {
	control := &s.client.broker.control
	control.Lock()
	defer control.Unlock()
	if s.err != nil {
		return s.err
	}
	return adapters.ErrEmpty
}

// fail applies f, and reports whether it took d away.
func (s *subscription) fail(ctx context.Context, f *injectedFault, d adapters.Delivery) bool {
	err := s.client.fail(ctx, "receive", f)
	taken := d.Settler.(*delivery)
	if err == nil && f.Do != CancelConsumer {
		return false
	}
	if err == nil {
		s.client.broker.cancel(taken.consumer, taken)
	}
	_ = taken.settle(adapters.Requeue) // if nothing else took it
	return true
}

// wait returns what w gets, or the zero value if ctx ended or c is gone.
func (c *consumer) wait(ctx context.Context, w *waiter) (t dequeued) {
	select {
	case t = <-w.got:
	case <-ctx.Done():
		t = c.cancelWait(w)
	}
	c.waiterPool.Put(w)
	return t
}

// awaitConsumer waits until the subscription has another consumer than c, which has ended, or ctx
// ends. It returns an error if there will be none.
func (s *subscription) awaitConsumer(ctx context.Context, c *consumer) error {
	control := &s.client.broker.control
	control.Lock()
	err, restoring := s.err, s.restoring
	control.Unlock()
	if err != nil || restoring == nil {
		return err
	}
	select {
	case <-restoring.Done():
	case <-ctx.Done():
	}
	return nil
}

// Stop implements [adapters.Subscription].
func (s *subscription) Stop() error {
	b := s.client.broker
	b.control.Lock()
	defer b.control.Unlock()
	if s.err != nil {
		return nil
	}
	if s.restoring == nil { // else there is no consumer
		b.detach(s.current.Load(), nil)
	}
	s.end(adapters.ErrStopped)
	return nil
}

// StopAndReturn implements [adapters.Returner].
func (s *subscription) StopAndReturn() error {
	b := s.client.broker
	b.control.Lock()
	defer b.control.Unlock()
	if s.err != nil {
		return nil
	}
	if s.restoring == nil { // else it holds nothing
		b.giveBack(s.current.Load())
	}
	s.end(adapters.ErrStopped)
	return nil
}

// Address implements [adapters.Subscription].
func (s *subscription) Address() string { return s.current.Load().queue.name }

// start makes a consumer in the client's current session. The control lock is held, here and below.
func (s *subscription) start() error {
	q, err := s.client.declare(s.source)
	if err != nil {
		return err
	}
	c := newConsumer(q, s.client.session)
	c.sub, c.prefetch, c.timeout = s, s.source.Prefetch, s.client.broker.timeout(q, s.source)
	c.session.consumers[c] = struct{}{}
	s.client.subs[s] = struct{}{}
	s.current.Store(c)
	q.attach(c)
	return nil
}

// end ends the subscription.
func (s *subscription) end(why error) {
	s.err = why
	delete(s.client.subs, s)
	s.restored()
}

func (s *subscription) restored() {
	if s.restoring != nil {
		s.endRestoring()
		s.restoring = nil
		s.client.broker.idle.note()
	}
}

// restore restores the subscription after its consumer was lost: at once, or, if a fault is in the
// way, as soon as that allows.
func (s *subscription) restore() {
	if s.err != nil || s.restoring != nil {
		return
	}
	f := s.fault()
	if f == nil {
		s.restart()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.restoring, s.endRestoring = ctx, cancel
	s.client.wg.Go(func() { s.restoreLater(ctx, f) })
}

// fault returns the fault that is in the way of subscribing, if any.
func (s *subscription) fault() *injectedFault {
	return s.client.broker.faults.hit(OnSubscribe, s.source.Name, s.source.QueueName())
}

func (s *subscription) restart() {
	if err := s.start(); err != nil {
		s.end(err)
	}
	s.restored()
}

// restoreLater takes the control lock itself. It ends with ctx, when the subscription does.
func (s *subscription) restoreLater(ctx context.Context, f *injectedFault) {
	for pause := (kit.Backoff{Min: 10 * time.Millisecond, Max: time.Second}); f != nil; {
		if s.client.fail(ctx, "subscribe", f) == nil {
			break
		}
		if s.client.pause(ctx, pause.Next(), nil) != nil {
			return
		}
		f = s.fault()
	}
	s.client.broker.control.Lock()
	defer s.client.broker.control.Unlock()
	if s.err == nil {
		s.restart()
	}
}
