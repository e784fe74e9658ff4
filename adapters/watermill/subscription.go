package watermill

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Subscribe implements [adapters.Driver]. The subscription holds at most
// s.Prefetch messages, and fewer if the pair hands over no more before they are
// acked.
func (d *Driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := s.ValidateSubscribe(); err != nil {
		return nil, err
	}
	if err := d.accept(ctx, "subscribe", s); err != nil {
		return nil, err
	}
	sub := &subscription{
		driver: d, source: s,
		places: make(chan struct{}, s.Prefetch), over: make(chan struct{}), gone: make(chan struct{}),
		held: map[*held]struct{}{},
	}
	if err := d.reserve(sub); err != nil {
		return nil, err
	}
	sub.life, sub.cancel = context.WithCancel(context.WithoutCancel(ctx))
	_, err := kit.Call(ctx, d.tasks,
		func() (struct{}, error) { return struct{}{}, sub.start() },
		func(struct{}) { sub.end(adapters.ErrStopped) })
	if err != nil {
		sub.cancel()
		d.release(sub)
		return nil, d.wrap("subscribe", err)
	}
	return sub, nil
}

// reserve makes s the only subscription of its queue, unless they compete.
func (d *Driver) reserve(s *subscription) error {
	if d.cfg.Competing || s.source.Kind != adapters.Queue {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[s.source.Name] != nil {
		return fmt.Errorf("a second subscription of %s, and nothing says that subscriptions compete: %w",
			s.source.Endpoint, &adapters.UnsupportedError{Adapter: d.cfg.Adapter, Missing: adapters.CanBalance})
	}
	d.queues[s.source.Name] = s
	return nil
}

func (d *Driver) release(s *subscription) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[s.source.Name] == s && s.source.Kind == adapters.Queue {
		delete(d.queues, s.source.Name)
	}
}

// start begins the pair's subscription.
func (s *subscription) start() error {
	d := s.driver
	subscriber, err := d.subscriber(s.source)
	if err != nil {
		return err
	}
	if s.msgs, err = subscriber.Subscribe(s.life, s.source.Name); err != nil {
		return err
	}
	if !d.remember(s) {
		s.cancel()
		giveBack(s.msgs)
		return adapters.ErrClosed
	}
	return nil
}

// remember notes s for Close, or returns false if the driver is closed.
func (d *Driver) remember(s *subscription) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.tasks.Closed():
		return false
	default:
		d.subs[s] = struct{}{}
		return true
	}
}

// giveBack nacks what still comes in from a subscription that was ended.
func giveBack(msgs <-chan *message.Message) {
	for m := range msgs {
		if m != nil {
			m.Nack()
		}
	}
}

// ackGrace is how long a pair may take to deal with the last acks before its
// subscription is ended.
const ackGrace = time.Second

// subscription is one subscription of the pair. watermill has only one way to end it, which
// abandons what is in hand. So after Stop it is kept, unread, until the pair has processed the
// settling of the last message.
type subscription struct {
	driver *Driver
	source adapters.Source
	msgs   <-chan *message.Message
	life   context.Context // of the pair's
	cancel context.CancelFunc

	places chan struct{} // a place for each message in hand, and for a Receive that waits for one
	over   chan struct{} // closed once why is set
	once   sync.Once     // guards hangUp
	gone   chan struct{} // closed once the pair's subscription is ended

	mu        sync.Mutex
	why       error              // why it ended
	held      map[*held]struct{} // those that the pair has not processed
	unsettled int                // how many of them are in hand
	timer     *time.Timer        // runs for ackGrace once nothing is in hand
}

// Receive implements [adapters.Subscription].
func (s *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	select {
	case <-s.over:
		return adapters.Delivery{}, s.why
	default:
	}
	if ctx.Err() != nil {
		return adapters.Delivery{}, s.driver.wrap("receive", ctx.Err())
	}
	select {
	case s.places <- struct{}{}:
	case <-s.over:
		return adapters.Delivery{}, s.why
	case <-ctx.Done():
		return adapters.Delivery{}, s.driver.wrap("receive", ctx.Err())
	}
	d, err := s.next(ctx)
	if err != nil {
		<-s.places
	}
	return d, err
}

func (s *subscription) next(ctx context.Context) (adapters.Delivery, error) {
	for {
		select {
		case m, ok := <-s.msgs:
			switch {
			case !ok:
				s.end(s.driver.wrap("receive", fmt.Errorf("%w: the watermill subscriber ended the subscription", adapters.ErrUnavailable)))
				return adapters.Delivery{}, s.why
			case m != nil:
				return s.take(m)
			}
		case <-s.over:
			return adapters.Delivery{}, s.why
		case <-ctx.Done():
			return adapters.Delivery{}, s.driver.wrap("receive", ctx.Err())
		}
	}
}

// take puts m in hand, unless the subscription has ended.
func (s *subscription) take(m *message.Message) (adapters.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		m.Nack()
		return adapters.Delivery{}, s.why
	}
	plain, key, properties := unpack(m)
	h := newHeld(s, m)
	plain.SetContext(h.ctx)
	s.held[h] = struct{}{}
	s.unsettled++
	return adapters.Delivery{Message: plain, Key: key, Properties: properties, Settler: h}, nil
}

// Stop implements [adapters.Subscription]. What the pair has fetched but not handed
// over goes back once the last message in hand is settled.
func (s *subscription) Stop() error {
	s.end(adapters.ErrStopped)
	return nil
}

// Address implements [adapters.Subscription]. It is "" for an exchange's subscriptions.
func (s *subscription) Address() string {
	if s.source.Kind != adapters.Queue {
		return ""
	}
	return s.source.Name
}

// end ends the subscription, once.
func (s *subscription) end(why error) {
	s.mu.Lock()
	first := s.why == nil
	if first {
		s.why = why
		close(s.over)
	}
	s.mu.Unlock()
	if first {
		s.driver.release(s)
	}
	s.tidy(nil)
}

// close ends the subscription with its driver, and takes away what is in hand.
func (s *subscription) close() {
	s.end(adapters.ErrClosed)
	var inHand []*held
	s.mu.Lock()
	for h := range s.held {
		if !h.settled {
			h.settled = true
			inHand = append(inHand, h)
		}
	}
	s.unsettled = 0
	s.mu.Unlock()
	for _, h := range inHand {
		h.abandon()
	}
}

// tidy forgets h, if it is not nil, once the pair has processed it, and hangs up once nothing needs
// the pair's subscription.
func (s *subscription) tidy(h *held) {
	s.mu.Lock()
	if h != nil && h.settled && (h.ended || !h.tells) {
		delete(s.held, h)
	}
	idle := s.why != nil && s.unsettled == 0
	dealtWith := len(s.held) == 0
	if idle && !dealtWith && s.timer == nil {
		s.timer = time.AfterFunc(ackGrace, s.hangUp)
	}
	s.mu.Unlock()
	if idle && dealtWith {
		s.hangUp()
	}
}

// hangUp ends the pair's subscription.
func (s *subscription) hangUp() {
	s.once.Do(func() {
		s.mu.Lock()
		if s.timer != nil {
			s.timer.Stop()
		}
		s.mu.Unlock()
		s.cancel()
		s.driver.leaving.Go(func() { giveBack(s.msgs) })
		s.driver.mu.Lock()
		delete(s.driver.subs, s)
		s.driver.mu.Unlock()
		close(s.gone)
	})
}
