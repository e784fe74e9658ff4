package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// leftOf is what the clients of one broker know together: that a subscriber has just left.
func leftOf(m *mutated) *atomic.Bool {
	left, _ := leavers.LoadOrStore(m.broker, new(atomic.Bool))
	return left.(*atomic.Bool)
}

var leavers sync.Map // by broker

var pubsubMutants = []mutant{
	{"lets private subscriptions compete", "pubsub/private-copies", privateAsGroup},
	{"binds a private subscription when it is first asked for a message", "pubsub/bound-on-return", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if !s.Private() {
				return subscribe(ctx, s)
			}
			return &lateSubscription{subscribe: func() (adapters.Subscription, error) { return subscribe(context.WithoutCancel(ctx), s) }}, nil
		}
	}},
	{"keeps what a private subscription left for the next one", "pubsub/private-gone", privateAsGroup},
	{"fails a publish for a subscriber that has just left", "pubsub/private-leaves", func(m *mutated) {
		publish, stop := m.publish, m.stop
		left := leftOf(m)
		m.stop = func(s adapters.Subscription) error {
			left.Store(true)
			return stop(s)
		}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if left.CompareAndSwap(true, false) && err == nil {
				return &adapters.PublishError{Failed: []adapters.FailedMessage{{UUID: msgs[0].UUID, Err: adapters.ErrNacked}}}
			}
			return err
		}
	}},
	{"sends again what it sent when a subscriber had just left, and does not say so", "pubsub/private-leaves", func(m *mutated) {
		publish, end := m.publish, m.close
		left := leftOf(m)
		m.close = func(ctx context.Context) error {
			left.Store(true)
			return end(ctx)
		}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if left.CompareAndSwap(true, false) {
				if err := publish(ctx, p, msgs...); err != nil {
					return err
				}
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"sends a batch from its end", "pubsub/private-order", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			msgs = slices.Clone(msgs)
			slices.Reverse(msgs)
			return publish(ctx, p, msgs...)
		}
	}},
	{"refuses a message that nobody has subscribed to", "pubsub/nobody-there", changing(func(p *adapters.Publication) {
		p.Mandatory = p.To.Kind.IsExchange()
	})},
	{"hands the same message to all subscribers", "pubsub/copies-apart", sharing},
	{"gives every member of a group a copy", "pubsub/group-copies", func(m *mutated) {
		subscribe, members := m.subscribe, 0
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if members++; s.Group != "" {
				s.Group += fmt.Sprintf("-%p-%d", m, members)
			}
			return subscribe(ctx, s)
		}
	}},
	{"hands a group's messages to a member that is busy", "pubsub/members-compete", tenTimesThePrefetch},
	{"forgets a group when its last member goes", "pubsub/group-keeps", sourcing(func(s *adapters.Source) {
		s.Queue.AutoDelete = s.Group != ""
	})},
	{"makes a group's queue when its first member comes", "pubsub/group-declared", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if s.Group != "" {
				return nil
			}
			return declare(ctx, s)
		}
	}},
	{"takes a group's queue away with its binding", "pubsub/unbind", func(m *mutated) {
		m.unbind = func(_ context.Context, s adapters.Source) error { return m.broker.DeleteQueue(s.QueueName()) }
	}},
	{"gives the name of the exchange for a group's address", "pubsub/address", func(m *mutated) {
		address := m.address
		m.address = func(s adapters.Subscription) string {
			exchange, _, _ := strings.Cut(address(s), ":")
			return exchange
		}
	}},
	{"does not tell capitals from small letters in the names of groups", "pubsub/names-apart", sourcing(func(s *adapters.Source) {
		s.Group = strings.ToLower(s.Group)
	})},
}

// privateAsGroup has one durable queue for all private subscriptions.
func privateAsGroup(m *mutated) {
	sourcing(func(s *adapters.Source) {
		if s.Kind.IsExchange() && s.Group == "" {
			s.Group = "everybody"
		}
	})(m)
}

// sharing gives all that receive a message at this client the same payload and
// headers.
func sharing(m *mutated) {
	var mu sync.Mutex
	shared := map[string]*message.Message{}
	receiving(func(d *adapters.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		first, ok := shared[d.Message.UUID]
		if !ok {
			shared[d.Message.UUID] = d.Message
			return
		}
		d.Message.Payload, d.Message.Metadata = first.Payload, first.Metadata
	})(m)
}

// lateSubscription subscribes at the first Receive.
type lateSubscription struct {
	subscribe func() (adapters.Subscription, error)

	mu  sync.Mutex
	sub adapters.Subscription
	err error
}

func (s *lateSubscription) late() (adapters.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sub == nil && s.err == nil {
		s.sub, s.err = s.subscribe()
	}
	return s.sub, s.err
}

func (s *lateSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	sub, err := s.late()
	if err != nil {
		return adapters.Delivery{}, err
	}
	return sub.Receive(ctx)
}

func (s *lateSubscription) Stop() error {
	sub, err := s.late()
	if err != nil {
		return nil //nolint:nilerr // there is nothing to stop
	}
	return sub.Stop()
}

func (s *lateSubscription) Address() string { return "" }
