package conformance

import (
	"context"
	"math"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// harness is that of the in-process broker.
func harness(b *memory.Broker) *Harness {
	return &Harness{
		Connect: func(context.Context) (adapters.Driver, error) { return b.Connect(), nil },
		Close:   func(context.Context) error { b.Close(); return nil },
		Restart: func(context.Context) error { b.Restart(); return nil },
		Cut:     func(context.Context) error { b.Cut(); return nil },
		Depth: func(_ context.Context, queue string) (int, error) {
			info, _ := b.Queue(queue)
			return info.Ready, nil
		},
		Delete: func(_ context.Context, queue string) error { return b.DeleteQueue(queue) },
		Freeze: func(context.Context) (func() error, error) {
			return stall(b, memory.OnPublish, memory.OnSubscribe, memory.OnDeliver, memory.OnSettle), nil
		},
		Block: func(context.Context) (func() error, error) { return stall(b, memory.OnPublish), nil },
		// A subscription's own HoldTime does it.
		HoldLimit: func(context.Context, time.Duration) (func() error, error) {
			return func() error { return nil }, nil
		},
	}
}

// stall lets no operation come to an end, until it is undone.
func stall(b *memory.Broker, ops ...memory.Op) (undo func() error) {
	var removes []func()
	for _, op := range ops {
		removes = append(removes, b.Inject(memory.Fault{On: op, Delay: math.MaxInt64}))
	}
	return func() error {
		for _, remove := range removes {
			remove()
		}
		return nil
	}
}

func onMemory(context.Context) (*Harness, error) { return harness(memory.New()), nil }

var onMemoryClaims = adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique}
