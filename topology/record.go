package topology

import (
	"context"
	"log/slog"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Of returns what declare declares on the bus that it is given, which has no broker: it takes every
// declaration that some broker could, and nothing else. Which queues a broker cannot have, as it
// lacks an ability, shows when the topology is compared with it.
func Of(ctx context.Context, declare func(context.Context, *patterns.Bus) error) (Topology, error) {
	r := &recorder{}
	bus := patterns.New(r, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(ctx) //nolint:errcheck // it has nothing open
	if err := declare(ctx, bus); err != nil {
		return Topology{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Merge(r.declared...)
}

// recorder is a driver that writes down what is declared.
type recorder struct {
	mu       sync.Mutex
	declared []Topology
}

// Declare implements [adapters.Driver].
func (r *recorder) Declare(ctx context.Context, s adapters.Source) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Validate(); err != nil {
		return err
	}
	var t Topology
	if s.Kind.IsExchange() {
		t.Exchanges = []Exchange{{Name: s.Name, Kind: s.Kind.String()}}
	}
	if !s.Private() {
		q := Queue{Name: s.QueueName(), Passive: s.Passive, Spec: s.Queue}
		if s.Kind.IsExchange() {
			q.Exchange, q.Group, q.Keys = s.Name, s.Group, s.Keys
		}
		t.Queues = []Queue{q}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.declared = append(r.declared, t)
	return nil
}

var errOnlyDeclares = invalid("there is no broker: a topology is made by Declare methods only")

// Publish implements [adapters.Driver].
func (r *recorder) Publish(context.Context, adapters.Publication, ...*message.Message) error {
	return errOnlyDeclares
}

// Subscribe implements [adapters.Driver].
func (r *recorder) Subscribe(context.Context, adapters.Source) (adapters.Subscription, error) {
	return nil, errOnlyDeclares
}

// Features implements [adapters.Driver].
func (r *recorder) Features() adapters.Features {
	return adapters.Features{Adapter: "topology", Ability: adapters.AllV1}
}

// Close implements [adapters.Driver].
func (r *recorder) Close(context.Context) error { return nil }
