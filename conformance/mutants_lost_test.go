package conformance

import (
	"context"
	"errors"

	"github.com/motifmq/motif/adapters"
)

var lostMutants = []mutant{
	{"does not say that a message came back", "lost/returned", receiving(func(d *adapters.Delivery) { d.Returned = 0 })},
	{"counts the first delivery, too", "lost/returned", receiving(func(d *adapters.Delivery) { d.Returned++ })},
	{"says of what is new that nobody counts", "lost/returned", receiving(func(d *adapters.Delivery) { d.Returned = -1 })},
	{"counts each second time", "lost/returned", receiving(func(d *adapters.Delivery) { d.Returned = (d.Returned + 1) / 2 })},
	{"loses the publisher's count of losses", "lost/returned", changing(func(p *adapters.Publication) { p.Lost = 0 })},
	{"counts losses itself", "lost/returned", receiving(func(d *adapters.Delivery) { d.Lost += d.Returned })},
	{"does not count what a lost session gives back", "lost/returned-by-cut", receiving(func(d *adapters.Delivery) { d.Returned = 0 })},
	{"lets a message be held without limit", "lost/held-too-long", sourcing(func(s *adapters.Source) { s.HoldTime = 0 })},
	{"tells of a lost session only", "lost/held-too-long", receiving(func(d *adapters.Delivery) {
		ctx, cancel := context.WithCancelCause(context.Background())
		context.AfterFunc(d.Message.Context(), func() { cancel(adapters.ErrSessionLost) })
		d.Message.SetContext(ctx)
	})},
	{"does not tell the holder", "lost/held-too-long", receiving(func(d *adapters.Delivery) {
		d.Message.SetContext(context.WithoutCancel(d.Message.Context()))
	})},
	{"blames all that was in hand", "lost/held-too-long", func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			err := settle(ctx, d, o)
			if errors.Is(err, adapters.ErrStaleDelivery) {
				return errors.Join(err, adapters.ErrConsumerTimeout)
			}
			return err
		}
	}},
	{"blames nobody", "lost/held-too-long", func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			err := settle(ctx, d, o)
			if errors.Is(err, adapters.ErrStaleDelivery) {
				return adapters.ErrStaleDelivery
			}
			return err
		}
	}},
	{"says nothing of a late settle", "lost/held-too-long", func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if err := settle(ctx, d, o); !errors.Is(err, adapters.ErrStaleDelivery) {
				return err
			}
			return nil
		}
	}},
	{"keeps a consumer that was given up", "lost/held-too-long", func(m *mutated) {
		receive, taken := m.receive, false
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			if err == nil && taken && d.Message.UUID == "b" { // gone to a ghost
				return receive(ctx, s)
			}
			taken = taken || d.Redelivered
			return d, err
		}
	}},
	{"says that what came back is new", "lost/parked", receiving(func(d *adapters.Delivery) { d.Returned, d.Redelivered = 0, false })},
	{"forgets the count of losses of what is published again", "lost/parked", changing(func(p *adapters.Publication) { p.Lost = 0 })},
	{"counts what a shutdown gives back as lost", "lost/shutdown", receiving(func(d *adapters.Delivery) {
		if d.Lost++; d.Redelivered {
			d.Lost++
		}
		d.Returned++
	})},
	{"counts each delivery as one that came back", "lost/cut", receiving(func(d *adapters.Delivery) { d.Redelivered, d.Returned = true, d.Returned+2 })},
}
