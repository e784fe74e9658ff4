package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var routedMutants = []mutant{
	{"looks at the first word of a key only", "routed/exact-key", keyed(func(key string) string {
		first, _, _ := strings.Cut(key, ".")
		return first
	})},
	{"ignores case in keys", "routed/bytes", keyed(strings.ToLower)},
	{"trims keys", "routed/bytes", keyed(strings.TrimSpace)},
	{"binds the first key only", "routed/several-keys", sourcing(func(s *adapters.Source) {
		if s.Kind == adapters.Direct {
			s.Keys = s.Keys[:1]
		}
	})},
	{"makes a copy for each binding", "routed/one-copy", copyPerBinding},
	{"ignores keys", "routed/groups", both(
		sourcing(func(s *adapters.Source) {
			if s.Kind == adapters.Direct {
				s.Kind, s.Keys = adapters.Fanout, nil
			}
		}),
		changing(func(p *adapters.Publication) {
			if p.To.Kind == adapters.Direct {
				p.To.Kind, p.Key = adapters.Fanout, ""
			}
		}),
	)},
	{"takes a group's keys away with the subscription that brought them", "routed/keys-add-up", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			sub, err := subscribe(ctx, s)
			if err != nil || s.Group == "" {
				return sub, err
			}
			return &unbindingSubscription{sub, func() error { return m.unbind(context.WithoutCancel(ctx), s) }}, nil
		}
	}},
	{"unbinds all keys when it is to unbind one", "routed/unbind", func(m *mutated) {
		bound := bindings(m)
		unbind := m.unbind
		m.unbind = func(ctx context.Context, s adapters.Source) error {
			s.Keys = bound(s.QueueName())
			return unbind(ctx, s)
		}
	}},
	{"does not unbind", "routed/unbind", func(m *mutated) {
		m.unbind = func(context.Context, adapters.Source) error { return nil }
	}},
	{"fails to unbind a key that is not bound", "routed/unbind-missing", func(m *mutated) {
		bound := bindings(m)
		unbind := m.unbind
		m.unbind = func(ctx context.Context, s adapters.Source) error {
			for _, key := range s.Keys {
				if !slices.Contains(bound(s.QueueName()), key) {
					return fmt.Errorf("%w: no binding %q", adapters.ErrNotFound, key)
				}
			}
			return unbind(ctx, s)
		}
	}},
	{"delivers without the key", "routed/key-delivered", receiving(func(d *adapters.Delivery) { d.Key = "" })},
}

// keyed binds and publishes with something made of the key.
func keyed(change func(string) string) func(*mutated) {
	return both(
		sourcing(func(s *adapters.Source) {
			s.Keys = slices.Clone(s.Keys)
			for i, key := range s.Keys {
				s.Keys[i] = change(key)
			}
		}),
		changing(func(p *adapters.Publication) { p.Key = change(p.Key) }),
	)
}

// bindings returns a function that reports the keys that a client has given to a queue.
func bindings(m *mutated) func(queue string) []string {
	var mu sync.Mutex
	keys := map[string][]string{}
	sourcing(func(s *adapters.Source) {
		mu.Lock()
		defer mu.Unlock()
		keys[s.QueueName()] = append(keys[s.QueueName()], s.Keys...)
	})(m)
	return func(queue string) []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(keys[queue])
	}
}

// copyPerBinding publishes a message as often as a private subscription of the
// client has keys for it.
func copyPerBinding(m *mutated) {
	bound := bindings(m)
	publish := m.publish
	m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
		copies := 0
		for _, key := range bound("") {
			if p.To.Kind == adapters.Direct && key == p.Key || p.To.Kind == adapters.Topic && adapters.MatchTopic(key, p.Key) {
				copies++
			}
		}
		for range max(copies, 1) {
			if err := publish(ctx, p, msgs...); err != nil {
				return err
			}
		}
		return nil
	}
}

// unbindingSubscription does something more when it is stopped.
type unbindingSubscription struct {
	adapters.Subscription
	unbind func() error
}

func (s *unbindingSubscription) Stop() error {
	if err := s.Subscription.Stop(); err != nil {
		return err
	}
	return s.unbind()
}
