package middleware_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// arrivals notes when messages are handled.
type arrivals struct {
	mu    sync.Mutex
	start time.Time
	times []time.Duration
}

func (a *arrivals) handle(ctx context.Context, _ int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, time.Since(a.start))
	return ctx.Err()
}

func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.start, a.times = time.Now(), nil
}

func (a *arrivals) want(t *testing.T, want ...time.Duration) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.times, want) {
		t.Errorf("handled at %v, want %v", a.times, want)
	}
}

func TestRateLimit(t *testing.T) {
	for _, workers := range []int{1, 4} {
		bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
			ctx := t.Context()
			q := patterns.NewWorkQueue[int](bus, "q")
			must(t, q.SendBatch(ctx, make([]int, 7)))
			var seen arrivals
			seen.reset()
			sub, err := q.Work(ctx, seen.handle, middleware.RateLimit(10, time.Second, 3), patterns.Workers(workers),
				patterns.HandlerTimeout(time.Millisecond))
			must(t, err)
			time.Sleep(50 * time.Millisecond)

			// What is held back is at the broker, where another client gets it.
			other := patterns.New(broker.Connect())
			taken, err := patterns.NewWorkQueue[int](other, "q").TryGet(ctx)
			must(t, err)
			must(t, taken.Ack(ctx))
			time.Sleep(10 * time.Second)
			seen.want(t, 0, 0, 0, 100*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond)

			// After a pause there is one burst, and no more.
			seen.reset()
			must(t, q.SendBatch(ctx, make([]int, 5)))
			time.Sleep(10 * time.Second)
			seen.want(t, 0, 0, 0, 100*time.Millisecond, 200*time.Millisecond)

			// A shutdown does not wait for the next token.
			must(t, q.SendBatch(ctx, make([]int, 100)))
			time.Sleep(50 * time.Millisecond)
			start := time.Now()
			must(t, sub.Stop(ctx))
			if d := time.Since(start); d > 0 {
				t.Errorf("stopping took %v", d)
			}
			must(t, other.Close(ctx))
		})
	}
}

func TestRateLimitOfSeveralSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		var seen arrivals
		seen.reset()
		limit := middleware.RateLimit(10, time.Second, 1)
		for _, name := range []string{"a", "b"} {
			q := patterns.NewWorkQueue[int](bus, name)
			must(t, q.SendBatch(t.Context(), make([]int, 50)))
			_, err := q.Work(t.Context(), seen.handle, limit)
			must(t, err)
		}
		private, err := patterns.NewPubSub[int](bus, "p").Subscribe(t.Context(), seen.handle, limit, patterns.Prefetch(4))
		must(t, err)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		seen.mu.Lock()
		n := len(seen.times)
		seen.mu.Unlock()
		if n < 50 || n > 53 {
			t.Errorf("%d messages in 5 s, at 10 a second", n)
		}
		must(t, private.Stop(t.Context()))
	})
}

func TestRateLimitRefusesNonsense(t *testing.T) {
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(context.Background())
	for name, option := range map[string]patterns.WorkOption{
		"no messages": middleware.RateLimit(0, time.Second, 1), "no time": middleware.RateLimit(1, 0, 1), "no burst": middleware.RateLimit(1, time.Second, 0),
		"a burst of ages":   middleware.RateLimit(1, 24*time.Hour, math.MaxInt),
		"Prefetch beside":   patterns.Options(patterns.Prefetch(8), middleware.RateLimit(1, time.Second, 1)),
		"Prefetch after":    patterns.Options(middleware.RateLimit(1, time.Second, 1), patterns.Prefetch(8)),
		"negative failures": middleware.CircuitBreaker(middleware.BreakerConfig{Failures: -1}),
		"no gate":           patterns.WithGate(nil), "no store": middleware.Once(nil),
	} {
		_, err := patterns.NewWorkQueue[int](bus, "q").Work(t.Context(), func(context.Context, int) error { return nil }, option)
		if !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
