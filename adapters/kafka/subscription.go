package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// subscription is a consumer of a queue. Its mutex guards what it holds, too.
type subscription struct {
	d      *Driver
	source adapters.Source
	queue  string
	wake   chan struct{} // of one: there is something to tell the broker
	link   *link
	number int // among those of the driver

	mu      sync.Mutex
	come    sync.Cond // there may be more to receive
	at      *attachment
	ready   []*delivery            // to be received
	held    map[*delivery]struct{} // not settled: those that are ready, too
	err     error                  // why it has ended
	stopped chan struct{}          // closed once nothing is fetched any more, and what was ready is back
	stop    func()                 // closes stopped

	// Of a queue with a single active consumer:
	returning bool          // what is in hand goes back, too
	gone      chan struct{} // closed once nothing is held any more

	life context.Context // ends with err
	end  context.CancelFunc
}

// delivery is a message that is held, or was.
type delivery struct {
	at       *attachment
	record   acquired
	envelope envelope
	metadata message.Metadata
	settled  bool // guarded by the subscription's mutex
}

func newSubscription(d *Driver, source adapters.Source) *subscription {
	s := &subscription{
		d: d, source: source, queue: source.QueueName(), wake: make(chan struct{}, 1), link: newLink("consume"),
		held: map[*delivery]struct{}{}, stopped: make(chan struct{}), gone: make(chan struct{}),
	}
	if source.Private() {
		s.queue = privatePrefix + newID()
	}
	s.come.L = &s.mu
	s.life, s.end = context.WithCancel(context.Background())
	s.stop = sync.OnceFunc(func() { close(s.stopped) })
	return s
}

// Format implements [fmt.Formatter], as that of Driver.
func (s *subscription) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "subscription to queue %q of %v", s.queue, s.d)
}

// Format implements [fmt.Formatter], as that of Driver.
func (h *delivery) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "message %d of queue %q", h.record.Offset, h.at.sub.queue)
}

// Address implements [adapters.Subscription].
func (s *subscription) Address() string { return s.queue }

// attach begins to consume.
func (s *subscription) attach(ctx context.Context) (*attachment, error) {
	t, letters, err := s.declare(ctx)
	if err != nil {
		return nil, err
	}
	if ordered, err := s.isOrdered(ctx, t); err != nil {
		return nil, err
	} else if ordered {
		return s.attachInLine(ctx, t, letters)
	}
	m, err := newMember(ctx, s.d, t)
	if err != nil {
		return nil, err
	}
	at := &attachment{member: m, sub: s, letters: letters}
	m.holds = at.holding
	at.ctx, at.end = context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.at = at
	s.mu.Unlock()
	got, gaps, err := at.begin(ctx, s.source.Prefetch)
	if err == nil {
		at.take(got, gaps)
	}
	if err == nil && s.source.Private() {
		err = s.d.routes.Bind(ctx, s.source.Endpoint, kit.Bound{Queue: s.queue, ID: boundID(t.id)}, s.source.Keys...)
		s.d.sweep(ctx, s.source.Endpoint)
	}
	if err != nil {
		at.over(adapters.ErrSessionLost)
		return nil, err
	}
	s.link.made("")
	return at, nil
}

// sweep takes away private queues whose clients have died: a few, for each new one. A queue is
// bound once its group has a member.
func (d *Driver) sweep(ctx context.Context, e adapters.Endpoint) {
	const few = 3
	bound, err := d.routes.Queues(ctx, e.Name)
	if err != nil {
		return // it is only housekeeping
	}
	bound = slices.DeleteFunc(bound, func(b kit.Bound) bool { return !strings.HasPrefix(b.Queue, privatePrefix) })
	rand.Shuffle(len(bound), func(i, j int) { bound[i], bound[j] = bound[j], bound[i] })
	for _, b := range bound[:min(few, len(bound))] {
		name := queueTopic(b.Queue)
		groups, err := within(ctx, func() (kadm.DescribedShareGroups, error) { return d.admin.DescribeShareGroups(ctx, name) })
		group := groups[name]
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) || group.Err != nil && !errors.Is(group.Err, kerr.GroupIDNotFound) || len(group.Members) > 0 {
			continue
		}
		_ = d.routes.Remove(ctx, e, b)
		_ = d.deleteQueue(ctx, name)
	}
}

func (s *subscription) declare(ctx context.Context) (t topic, letters string, err error) {
	if !s.source.Private() {
		return s.d.declare(ctx, s.source, s.queue)
	}
	if err = s.d.routes.Declare(ctx, s.source.Endpoint); err == nil {
		t, err = s.d.makeQueue(ctx, queueTopic(s.queue))
	}
	return t, "", err
}

// run consumes until the subscription is over.
func (s *subscription) run(at *attachment) {
	ctx, cancel := s.d.untilClosed()
	defer cancel()
	defer close(s.gone)
	defer s.forget()
	defer s.stop()
	defer s.end()
	for {
		err := at.consume(ctx)
		at.over(cmp.Or(err, s.why()))
		if err == nil || s.why() != nil {
			break
		}
		s.link.lost(err)
		s.d.logger().Warn("kafka: session lost", "queue", s.queue, "error", err)
		if at = s.reattach(ctx); at == nil {
			break
		}
	}
	if s.source.Private() {
		removing, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		s.remove(removing)
	}
}

// remove takes away a private queue.
func (s *subscription) remove(ctx context.Context) {
	s.d.mu.Lock()
	t, found := s.d.topics[queueTopic(s.queue)]
	s.d.mu.Unlock()
	if found {
		// Its routes read in the tasks of the driver, which may be closed: then the next publisher
		// finds that the queue is gone.
		_ = s.d.routes.Remove(ctx, s.source.Endpoint, kit.Bound{Queue: s.queue, ID: boundID(t.id)})
	}
	_ = s.d.deleteQueue(ctx, queueTopic(s.queue))
}

// reattach attaches the subscription again, and returns nil if it is over.
func (s *subscription) reattach(ctx context.Context) *attachment {
	wait := kit.Backoff{Min: 20 * time.Millisecond, Max: time.Second}
	ctx, cancel := s.d.bound(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for s.why() == nil {
		at, err := s.attach(ctx)
		switch {
		case err == nil:
			return at
		case errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrInvalid), s.source.Passive && errors.Is(err, adapters.ErrNotFound):
			s.finish(err)
			return nil
		}
		s.link.lost(err)
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
		}
	}
	return nil
}

// why returns why the subscription is over, or nil.
func (s *subscription) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.d.tasks.IsClosed() {
		s.err = adapters.ErrClosed
		s.end()
		s.come.Broadcast()
	}
	return s.err
}

// finish ends the subscription, and reports whether it had not ended before.
func (s *subscription) finish(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = why
	s.end()
	s.come.Broadcast()
	s.signal()
	return true
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) forget() {
	s.d.mu.Lock()
	delete(s.d.subs, s)
	s.d.mu.Unlock()
}

// Stop implements [adapters.Subscription].
func (s *subscription) Stop() error {
	s.finish(adapters.ErrStopped)
	select {
	case <-s.stopped:
	case <-s.d.tasks.Closed():
	}
	return nil
}

// Receive implements [adapters.Subscription].
func (s *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	wake := func() {
		s.mu.Lock() // so that it waits, or has not looked yet
		defer s.mu.Unlock()
		s.come.Broadcast()
	}
	defer context.AfterFunc(ctx, wake)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.err == nil && s.d.tasks.IsClosed() {
			s.err = adapters.ErrClosed
			s.end()
		}
		if err := cmp.Or(s.err, ctx.Err()); err != nil {
			s.come.Signal() // what this one was woken for is another's
			return adapters.Delivery{}, err
		}
		if len(s.ready) == 0 || s.at.expired() {
			s.come.Wait()
			continue
		}
		h := s.ready[0]
		s.ready = s.ready[1:]
		return h.deliver(), nil
	}
}

// returned is how often the message has come back.
func (h *delivery) returned() int { return h.envelope.Returned + h.record.count - 1 }

// deliver returns what the receiver gets.
func (h *delivery) deliver() adapters.Delivery {
	d := h.envelope.delivery(h.record.Record, h.metadata)
	d.Message.SetContext(h.at.ctx)
	d.Returned, d.Settler = h.returned(), h
	d.Redelivered = d.Returned > 0 || h.envelope.Again
	return d
}

var howTo = [...]int8{adapters.Ack: ackAccept, adapters.Requeue: ackRelease, adapters.Reject: ackReject}

// Settle implements [adapters.Settler].
func (h *delivery) Settle(ctx context.Context, o adapters.Outcome) error {
	if int(o) >= len(howTo) {
		return fmt.Errorf("kafka: settle: %w: %s", adapters.ErrInvalid, o)
	}
	s, how := h.at.sub, howTo[o]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := h.cannotSettle(ctx); err != nil || h.settled {
		return err
	}
	if s.source.Private() && errors.Is(s.err, adapters.ErrStopped) {
		return nil // its queue is gone
	}
	h.settled = true
	if o == adapters.Reject && h.at.letters != "" {
		s.mu.Unlock()
		err := h.toDeadLetters(ctx)
		s.mu.Lock()
		if err != nil {
			h.settled = false
		}
		if gone := h.cannotSettle(context.WithoutCancel(ctx)); gone != nil {
			err = gone
		}
		if err != nil {
			return err
		}
		how = ackAccept
	}
	delete(s.held, h)
	if h.at.line != nil {
		h.at.line.settle(h, how)
		s.signal()
		return nil
	}
	h.at.done = append(h.at.done, settled{h.record.Offset, how})
	h.at.returns = h.at.returns || how == ackRelease
	h.at.handled++
	if len(h.at.done) == 1 || !h.at.canWait() {
		s.signal()
	}
	return nil
}

// cannotSettle returns why the message cannot be settled. The subscription's mutex is held.
func (h *delivery) cannotSettle(ctx context.Context) error {
	switch s := h.at.sub; {
	case s.d.tasks.IsClosed():
		return adapters.ErrClosed
	case s.source.Private() && errors.Is(s.err, adapters.ErrStopped):
		return nil
	case h.at.lost, h.at.expired():
		return adapters.ErrStaleDelivery
	case ctx.Err() != nil && !h.settled:
		return fmt.Errorf("kafka: settle: %w", ctx.Err())
	}
	return nil
}
