package middleware_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
