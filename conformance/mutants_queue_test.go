package conformance

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var queueMutants = []mutant{
	{"gives every message to all consumers", "queue/one-of-many", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if s.Kind == adapters.Queue {
				s.Endpoint = adapters.Endpoint{Kind: adapters.Fanout, Name: s.Name}
			}
			return subscribe(ctx, s)
		}
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if p.To.Kind == adapters.Queue {
				p.To.Kind = adapters.Fanout
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"fills one consumer before it turns to the next", "queue/fair-dispatch", tenTimesThePrefetch},
	{"ignores the prefetch", "queue/prefetch-holds", tenTimesThePrefetch},
}

func tenTimesThePrefetch(m *mutated) {
	subscribe := m.subscribe
	m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
		s.Prefetch *= 10
		return subscribe(ctx, s)
	}
}
