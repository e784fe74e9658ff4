package patterns_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/patterns"
)

// remembered is a Deduplicator's repository.
type remembered map[string]bool

func (r remembered) IsDuplicate(_ context.Context, key string) (bool, error) {
	was := r[key]
	r[key] = true
	return was, nil
}

// argumentOf returns a zero value of what f takes: of a type in a package that go.mod need not
// name.
func argumentOf[T, R any](func(T) R) (v T) { return v }

// What the other half of watermill's own middleware does here; docs/middleware.md says it.
func TestWatermillsOwnMiddlewareThatDecides(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		poison, err := middleware.PoisonQueue(watermill.NewPublisher(broker.Connect(), func(topic string) adapters.Publication {
			return adapters.Publication{To: adapters.Endpoint{Name: topic}}
		}), "poison")
		must(t, err)
		must(t, patterns.NewWorkQueue[int](bus, "poison").Declare(t.Context()))
		hour := argumentOf(middleware.NewCircuitBreaker)
		hour.Timeout = time.Hour
		throttled := func(h message.HandlerFunc) message.HandlerFunc {
			return middleware.NewThrottle(1, time.Second).Middleware(h)
		}
		policy := patterns.Retry(patterns.RetryPolicy{Attempts: 3})
		for name, c := range map[string]struct {
			mw   message.HandlerMiddleware
			ok   bool // the handler succeeds
			sent int
			want string
		}{
			"Throttle":       {mw: throttled, ok: true, sent: 3, want: "3 calls, 0 retried, 0 dead, 3s"},
			"CorrelationID":  {mw: middleware.CorrelationID, sent: 1, want: "3 calls, 2 retried, 1 dead, 3s"},
			"RandomFail":     {mw: middleware.RandomFail(1), ok: true, sent: 1, want: "0 calls, 2 retried, 1 dead, 0s"},
			"RandomPanic":    {mw: middleware.RandomPanic(1), ok: true, sent: 1, want: "0 calls, 2 retried, 1 dead, 0s"},
			"PoisonQueue":    {mw: poison, sent: 1, want: "1 calls, 0 retried, 0 dead, 0s"},
			"DelayOnError":   {mw: (&middleware.DelayOnError{InitialInterval: time.Hour}).Middleware, sent: 1, want: "3 calls, 2 retried, 1 dead, 3s"},
			"Deduplicator":   {mw: (&middleware.Deduplicator{Repository: remembered{}}).Middleware, sent: 1, want: "1 calls, 1 retried, 0 dead, 0s"},
			"CircuitBreaker": {mw: middleware.NewCircuitBreaker(hour).Middleware, sent: 3, want: "6 calls, 6 retried, 3 dead, 1s"},
		} {
			before := bus.Stats()
			calls, start := 0, time.Now()
			last := start
			q := patterns.NewWorkQueue[int](bus, name)
			sub, err := q.Work(t.Context(), func(context.Context, int) error {
				calls++
				last = time.Now()
				if c.ok {
					return nil
				}
				return errKitchen
			}, patterns.WithMiddleware(c.mw), policy)
			must(t, err)
			must(t, q.SendBatch(t.Context(), make([]int, c.sent)))
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			after := bus.Stats()
			got := fmt.Sprintf("%d calls, %d retried, %d dead, %v", calls, after.Retried-before.Retried, after.DeadLettered-before.DeadLettered,
				last.Sub(start).Truncate(time.Second))
			if got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
			if c.want == "3 calls, 2 retried, 1 dead, 3s" {
				if letter := take(t, q.Dead()); letter.Headers[delay.DelayedForKey] != "" || letter.Headers[middleware.CorrelationIDMetadataKey] != "" {
					t.Errorf("%s: headers %v", name, letter.Headers)
				}
			}
			must(t, sub.Stop(t.Context()))
		}
		if got := take(t, patterns.NewWorkQueue[int](bus, "poison")); got.Headers[middleware.ReasonForPoisonedKey] != errKitchen.Error() {
			t.Errorf("poisoned: %v", got.Headers)
		}
	})
}

// CorrelationID gives the answer of a call the request's.
func TestWatermillsCorrelationIDOfCalls(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		var answer string
		see := func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				out, err := next(m)
				answer = middleware.MessageCorrelationID(out[0])
				return out, err
			}
		}
		f := patterns.NewRPC[int, int](bus, "f")
		_, err := f.Serve(t.Context(), func(_ context.Context, n int) (int, error) { return n, nil }, patterns.WithMiddleware(see, middleware.CorrelationID))
		must(t, err)
		must(t, second(f.Call(t.Context(), 1, patterns.Header(middleware.CorrelationIDMetadataKey, "c"))))
		if answer != "c" {
			t.Errorf("the answer has %q", answer)
		}
	})
}
