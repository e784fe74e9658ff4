package middleware_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wm "github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

func TestCircuitBreaker(t *testing.T) {
	for _, workers := range []int{1, 4} {
		bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
			ctx := t.Context()
			q := patterns.NewWorkQueue[int](bus, "q")
			const messages = 40
			must(t, q.SendBatch(ctx, make([]int, messages)))
			var calls, done, attempts atomic.Int64
			var down atomic.Bool
			down.Store(true)
			sub, err := q.Work(ctx, func(ctx context.Context, _ int) error {
				calls.Add(1)
				if down.Load() {
					return errDown
				}
				d, _ := patterns.DeliveryFrom(ctx)
				attempts.Add(int64(d.Attempt))
				done.Add(1)
				return nil
			}, patterns.Workers(workers), patterns.Prefetch(8), middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 3, Cooldown: time.Minute}))
			must(t, err)
			time.Sleep(30 * time.Second)
			atFirst := calls.Load()
			if atFirst < 3 || atFirst > 3+int64(workers) {
				t.Errorf("%d calls before it opened", atFirst)
			}
			other := patterns.New(broker.Connect())
			taken, err := patterns.NewWorkQueue[int](other, "q").TryGet(ctx)
			must(t, err) // what waits is at the broker
			must(t, taken.Requeue(ctx))

			time.Sleep(time.Hour)
			if probes := calls.Load() - atFirst; probes < 59 || probes > 61 {
				t.Errorf("%d probes in an hour", probes)
			}
			down.Store(false)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			stats := bus.Stats()
			if done.Load() != messages || stats.DeadLettered != 0 || stats.Retried != 2 || attempts.Load() != messages+2 {
				t.Errorf("%d of %d are done after %d attempts: %+v", done.Load(), messages, attempts.Load(), stats)
			}
			must(t, other.Close(ctx))
			must(t, sub.Stop(ctx))
		})
	}
}

// A probe that never gets to the handler is followed by another.
func TestCircuitBreakerProbesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		down, done := true, 0
		_, err := q.Work(t.Context(), func(context.Context, int) error {
			if down {
				return errDown
			}
			done++
			return nil
		}, middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 1, Cooldown: time.Minute}))
		must(t, err)
		must(t, q.Send(t.Context(), 1))
		time.Sleep(time.Second)
		synctest.Wait()
		down = false
		text := patterns.NewWorkQueue[string](bus, "q") // which do not decode
		must(t, text.Send(t.Context(), "x"))
		must(t, text.Send(t.Context(), "y"))
		must(t, q.Send(t.Context(), 2))
		time.Sleep(time.Hour)
		synctest.Wait()
		if done != 2 || bus.Stats().DeadLettered != 2 {
			t.Errorf("%d done, %+v", done, bus.Stats())
		}
	})
}

// One message that always fails does not keep the others waiting, and ends with the dead letters.
func TestCircuitBreakerOfOneBadMessage(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		const bad = 0
		var done []int
		_, err := q.Work(t.Context(), func(_ context.Context, n int) error {
			if n == bad {
				return errDown
			}
			done = append(done, n)
			return nil
		}, middleware.CircuitBreaker(middleware.BreakerConfig{}))
		must(t, err)
		must(t, q.Send(t.Context(), bad))
		time.Sleep(time.Minute) // in which its own attempts open the breaker
		for n := range 3 {
			must(t, q.Send(t.Context(), n+1))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if !slices.Equal(done, []int{1, 2, 3}) || bus.Stats().DeadLettered != 1 {
			t.Errorf("done %v, %+v", done, bus.Stats())
		}
	})
}

func TestCircuitBreakerOfPanicsAndOfRejects(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		calls := map[string]int{}
		work := func(name string, h func() error) {
			q := patterns.NewWorkQueue[int](bus, name)
			must(t, q.SendBatch(t.Context(), make([]int, 10)))
			_, err := q.Work(t.Context(), func(context.Context, int) error { calls[name]++; return h() }, patterns.NoRetry(),
				middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 2, Cooldown: time.Hour}))
			must(t, err)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		work("panics", func() error { panic("oven") })
		work("rejects", func() error { return patterns.Reject(errDown) })
		if calls["panics"] != 2 || calls["rejects"] != 10 {
			t.Error(calls)
		}
	})
}

// Nothing but time limits and a handler's own errors says that the shop is down, and nothing but
// its handler's success says that it is up.
func TestCircuitBreakerCounts(t *testing.T) {
	breaker := func() patterns.WorkOption {
		return middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 2, Cooldown: 24 * time.Hour})
	}
	down := func(context.Context, int) error { return errDown }
	for name, c := range map[string]struct {
		handler func(ctx context.Context, call int) error
		opts    []patterns.WorkOption
		ids     []string // without one each message has its own
		calls   int

		payloads int // that do not decode, ahead of the messages
	}{
		"failures": {handler: down, opts: []patterns.WorkOption{breaker()}, calls: 2},
		"time limits of middleware around it": {
			handler: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			opts:    []patterns.WorkOption{patterns.WithMiddleware(wm.Timeout(time.Second)), breaker()}, calls: 2,
		},
		"HandlerTimeout": {
			handler: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			opts:    []patterns.WorkOption{patterns.HandlerTimeout(time.Second), breaker()}, calls: 2,
		},
		"with duplicates in between": {
			handler: func(_ context.Context, call int) error { return []error{nil, errDown, errDown, nil, nil, nil}[call-1] },
			opts: []patterns.WorkOption{
				breaker(), middleware.Once(middleware.NewMemoryStore(10)),
			},
			ids: []string{"a", "b", "a", "c", "d"}, calls: 3,
		},
		"with success in between": {
			handler: func(_ context.Context, call int) error { return []error{errDown, nil}[call%2] },
			opts:    []patterns.WorkOption{breaker()}, calls: 10,
		},
		"payloads that do not decode, and a handler that cannot decode": {
			handler: func(context.Context, int) error { return fmt.Errorf("the card: %w", patterns.ErrCodec) },
			opts:    []patterns.WorkOption{breaker()}, payloads: 3, calls: 5,
		},
		"middleware that rejects what does not decode": {
			handler: func(_ context.Context, call int) error {
				return []error{errDown, patterns.Reject(patterns.ErrCodec), errDown, nil, nil}[call-1]
			},
			opts: []patterns.WorkOption{breaker()}, calls: 3,
		},
		"what IsFailure says is none": {
			handler: down,
			opts: []patterns.WorkOption{middleware.CircuitBreaker(middleware.BreakerConfig{
				Failures: 2, Cooldown: 24 * time.Hour, IsFailure: func(error) bool { return false },
			})}, calls: 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				calls := 0
				_, err := q.Work(t.Context(), func(ctx context.Context, _ int) error { calls++; return c.handler(ctx, calls) },
					append(c.opts, patterns.Retry(patterns.RetryPolicy{Min: time.Hour, Attempts: 2}))...)
				must(t, err)
				for range c.payloads {
					must(t, patterns.NewWorkQueue[string](bus, "q").Send(t.Context(), "no number"))
				}
				if c.ids == nil {
					must(t, q.SendBatch(t.Context(), make([]int, 5)))
				}
				for _, id := range c.ids {
					must(t, q.Send(t.Context(), 1, patterns.MessageID(id)))
				}
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				if calls != min(c.calls, 5) {
					t.Errorf("%d calls", calls)
				}
			})
		})
	}
}

// There is one probe at a time, at its time, however long it takes and whatever is in hand from
// before; after one that works all workers have messages again.
func TestCircuitBreakerHasOneProbe(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[time.Duration](bus, "q")
		start := time.Now()
		var up atomic.Bool
		var mu sync.Mutex
		var probes []time.Duration
		inHand, most := 0, 0
		_, err := q.Work(t.Context(), func(_ context.Context, d time.Duration) error {
			since := time.Since(start)
			if since < time.Second { // what is in hand when the breaker opens
				time.Sleep(d)
				if d == 20*time.Second {
					return nil
				}
				return errDown
			}
			mu.Lock()
			probes = append(probes, since)
			inHand++
			most = max(most, inHand)
			mu.Unlock()
			time.Sleep(150 * time.Second)
			mu.Lock()
			inHand--
			mu.Unlock()
			if up.Load() {
				return nil
			}
			return errDown
		}, patterns.Workers(4), patterns.DrainTimeout(time.Hour), middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 1, Cooldown: time.Minute}))
		must(t, err)
		must(t, q.SendBatch(t.Context(), []time.Duration{70 * time.Second, 30 * time.Second, 20 * time.Second, 0})) // the last one opens it
		time.Sleep(2 * time.Second)
		must(t, q.SendBatch(t.Context(), make([]time.Duration, 20)))
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		if most != 1 || len(probes) < 15 || probes[0] != time.Minute {
			t.Errorf("%d at a time, at %v", most, probes)
		}
		mu.Unlock()
		up.Store(true)
		time.Sleep(10 * time.Minute)
		mu.Lock()
		if most != 4 {
			t.Errorf("%d at a time afterwards", most)
		}
		mu.Unlock()
	})
}

// A subscription ends while its breaker is open, and nothing is lost.
func TestCircuitBreakerStopsWhileItIsOpen(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.SendBatch(t.Context(), make([]int, 10)))
		sub, err := q.Work(t.Context(), func(context.Context, int) error { return errDown }, patterns.Workers(4), patterns.Prefetch(8),
			middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 1, Cooldown: time.Hour}))
		must(t, err)
		time.Sleep(time.Second)
		start := time.Now()
		must(t, sub.Stop(t.Context()))
		if d := time.Since(start); d > 0 {
			t.Errorf("stopping took %v", d)
		}
		left := 0
		for _, err := range q.Waiting(t.Context()) {
			must(t, err)
			left++
		}
		if left != 10 {
			t.Errorf("%d messages are left", left)
		}
	})
}
