package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestOnSettleThatEndsItsGoroutine, as t.FailNow does: nothing else changes. It keeps no server
// from ending, no message from being tried again, and no other function from being called.
func TestOnSettleThatEndsItsGoroutine(t *testing.T) {
	var before, after settlements
	ending := func(context.Context, patterns.Settlement) { runtime.Goexit() }
	for name, c := range map[string]struct {
		use  func(*testing.T, *patterns.Bus, *memory.Client) *patterns.Subscription
		want string
	}{
		"calls": {func(t *testing.T, bus *patterns.Bus, _ *memory.Client) *patterns.Subscription {
			f := patterns.NewRPC[int, int](bus, "f")
			sub, err := f.Serve(t.Context(), func(_ context.Context, n int) (int, error) { return n, nil })
			must(t, err)
			must(t, second(f.Call(t.Context(), 1)))
			return sub
		}, "1 acknowledged"},
		"two messages": {func(t *testing.T, bus *patterns.Bus, _ *memory.Client) *patterns.Subscription {
			q := patterns.NewWorkQueue[int](bus, "q")
			must(t, q.SendBatch(t.Context(), []int{1, 2}))
			sub, err := q.Work(t.Context(), func(context.Context, int) error { return nil })
			must(t, err)
			return sub
		}, "1 acknowledged, 1 acknowledged"},
		"retry in process": {func(t *testing.T, bus *patterns.Bus, _ *memory.Client) *patterns.Subscription {
			q := patterns.NewWorkQueue[int](bus, "q")
			must(t, q.Send(t.Context(), 1))
			sub, err := q.Work(t.Context(), func(context.Context, int) error { return errKitchen },
				patterns.Retry(patterns.RetryPolicy{Attempts: 3, InProcess: true}))
			must(t, err)
			return sub
		}, "1 retried, 2 retried, 3 dead-lettered"},
		"fetched ahead": {func(t *testing.T, bus *patterns.Bus, client *memory.Client) *patterns.Subscription {
			q := patterns.NewWorkQueue[string](bus, "jobs")
			must(t, q.Declare(t.Context()))
			suspected(t, client, map[string]int{"a": 4, "b": 4}, 0)
			sub, err := q.Work(t.Context(), func(context.Context, string) error { return nil }, patterns.Prefetch(2))
			must(t, err)
			return sub
		}, "1 requeued, 1 acknowledged, 1 acknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			before, after = settlements{}, settlements{}
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				client := broker.Connect()
				sub := c.use(t, bus, client)
				time.Sleep(time.Hour)
				synctest.Wait()
				start := time.Now()
				must(t, sub.Stop(t.Context()))
				if d := time.Since(start); d >= time.Second {
					t.Errorf("stopping took %v", d)
				}
				if before.String() != c.want || after.String() != c.want {
					t.Errorf("told %q before and %q after it, want %q", &before, &after, c.want)
				}
				must(t, client.Close(t.Context()))
			}, patterns.OnSettle(before.note, ending, ending, after.note))
		})
	}
}

// fetchedAheadOf is called with a subscription whose handler has in hand a message that killed its
// workers, and behind which two others were fetched.
func fetchedAheadOf(t *testing.T, seen *settlements, f func(*testing.T, *memory.Broker, *patterns.Subscription)) {
	t.Helper()
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		client := broker.Connect()
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Declare(t.Context()))
		suspected(t, client, map[string]int{"suspect": 4}, 0)
		must(t, jobs.Send(t.Context(), "a", patterns.MessageID("a")))
		must(t, jobs.Send(t.Context(), "b", patterns.MessageID("b")))
		release := make(chan struct{})
		sub, err := jobs.Work(t.Context(), func(_ context.Context, id string) error {
			if id == "suspect" {
				<-release
			}
			time.Sleep(time.Second)
			return nil
		}, patterns.Prefetch(3), patterns.DrainTimeout(time.Second), patterns.OnSettle(
			func(context.Context, patterns.Settlement) { runtime.Goexit() },
			func(ctx context.Context, v patterns.Settlement) {
				seen.note(ctx, v)
				seen.mu.Lock()
				defer seen.mu.Unlock()
				seen.lines[len(seen.lines)-1] = fmt.Sprintf("%s %s after %v", v.ID, v.Result, v.Duration)
			}))
		must(t, err)
		time.Sleep(time.Minute)
		f(t, broker, sub)
		close(release)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := sub.Stop(t.Context()); !errors.Is(err, patterns.ErrAbandoned) {
			must(t, err)
		}
		must(t, client.Close(t.Context()))
	})
}

func TestOnSettleOfWhatWasFetchedAhead(t *testing.T) {
	var seen settlements
	fetchedAheadOf(t, &seen, func(_ *testing.T, broker *memory.Broker, _ *patterns.Subscription) { broker.Cut() })
	if want := "suspect requeued after 0s, " + // when it came again, while it was in hand
		"suspect stale after 1m1s, a stale after 0s, b stale after 0s, " +
		"a acknowledged after 1s, b acknowledged after 1s, suspect acknowledged after 1s"; seen.String() != want {
		t.Errorf("of a lost session: %s, want %s", &seen, want)
	}
	seen = settlements{}
	fetchedAheadOf(t, &seen, func(t *testing.T, _ *memory.Broker, sub *patterns.Subscription) {
		wantErr(t, "Stop", sub.Stop(t.Context()), patterns.ErrAbandoned)
	})
	if want := "a requeued after 0s, b requeued after 0s, suspect requeued after 0s"; seen.String() != want {
		t.Errorf("of a handler that ignores a shutdown: %s, want %s", &seen, want)
	}
}

// TestOnSettleThatDoesNotReturn keeps no subscription from ending, whatever it is told of.
func TestOnSettleThatDoesNotReturn(t *testing.T) {
	for name, deaf := range map[string]bool{"of a message that was handled": false, "of one whose handler does not return": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				must(t, q.Send(t.Context(), 1))
				block := make(chan struct{})
				sub, err := q.Work(t.Context(), func(context.Context, int) error {
					if deaf {
						<-block
					}
					return nil
				}, patterns.DrainTimeout(time.Second), patterns.OnSettle(func(context.Context, patterns.Settlement) { <-block }))
				must(t, err)
				synctest.Wait()
				start := time.Now()
				wantErr(t, "Stop", sub.Stop(t.Context()), patterns.ErrAbandoned)
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("stopping took %v", d)
				}
				close(block)
			})
		})
	}
}
