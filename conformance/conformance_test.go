package conformance

import (
	"context"
	"testing"

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
	}
}

func onMemory(context.Context) (*Harness, error) { return harness(memory.New()), nil }

var onMemoryClaims = adapters.Features{Adapter: "memory", Ability: adapters.Everything}

func TestMemory(t *testing.T) { Run(t, onMemory, onMemoryClaims) }
