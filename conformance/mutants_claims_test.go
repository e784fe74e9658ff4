package conformance

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

var claimsMutants = []mutant{
	{"claims nothing once it is closed", "claims/as-said", func(m *mutated) {
		closed := atomic.Bool{}
		features, closeClient := m.features, m.close
		m.features = func() adapters.Features {
			if closed.Load() {
				return adapters.Features{}
			}
			return features()
		}
		m.close = func(ctx context.Context) error {
			closed.Store(true)
			return closeClient(ctx)
		}
	}},
	{"has another limit in each client", "claims/as-said", func(m *mutated) {
		features, limit := m.features, limits.Add(1)
		m.features = func() adapters.Features {
			f := features()
			f.MaxBody = int(limit) << 20
			return f
		}
	}},
	{"claims less than is claimed for it", "claims/as-said", func(m *mutated) {
		features := m.features
		m.features = func() adapters.Features {
			f := features()
			f.Ability &^= adapters.CanDelay
			return f
		}
	}},
	{"claims to get, and has no method for it", "claims/getter", onlyDriver},
	{"waits for a message where there is none to get", "claims/getter", func(m *mutated) {
		get := m.get
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			for {
				d, err := get(ctx, s)
				if err == nil {
					return d, nil
				}
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					return d, ctx.Err()
				}
			}
		}
	}},
	{"claims to unbind, and has no method for it", "claims/unbinder", onlyDriver},
	{"does not hold the limit that it claims for delays", "claims/max-delay", func(m *mutated) {
		features := m.features
		m.features = func() adapters.Features {
			f := features()
			f.MaxDelay = time.Hour
			return f
		}
	}},
}

var limits atomic.Int64

// onlyDriver is a driver without the optional methods.
func onlyDriver(m *mutated) { m.as = struct{ adapters.Driver }{m} }
