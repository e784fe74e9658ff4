package patterns_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestOrderByKeyLostWorkers: a message that kills its process is given up after the limit, no other
// is, and the order of each key holds, that of its own included.
func TestOrderByKeyLostWorkers(t *testing.T) {
	const keys, each = 6, 8
	poison := step{"k3", 2}
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		bus := patterns.New(broker.Connect())
		defer bus.Close(t.Context())
		jobs := patterns.NewWorkQueue[step](bus, "jobs")
		for n := range each {
			for k := range keys {
				must(t, jobs.Send(t.Context(), step{"k" + string(rune('0'+k)), n}))
			}
		}
		h := newHistory()
		h.done[poison] = 1 // it is given up, and lets others pass
		living, kill := context.WithCancel(t.Context())
		defer kill()
		var losses []int
		other := 0
		work := func() (died bool) {
			client := broker.Connect()
			dead := make(chan struct{})
			sub, err := patterns.NewWorkQueue[step](patterns.New(client), "jobs").Work(living, func(ctx context.Context, s step) error {
				h.begin(s)
				defer h.end(s, s != poison && ctx.Err() == nil)
				d, _ := patterns.DeliveryFrom(ctx)
				if s == poison {
					losses = append(losses, d.Lost)
					time.Sleep(10 * time.Millisecond)
					h.mu.Lock()
					if d.Lost >= 2 && len(h.running) > 1 {
						t.Errorf("it runs after %d losses, beside others: %v", d.Lost, h.running)
					}
					h.mu.Unlock()
					go func() { must(t, client.Close(context.Background())); close(dead) }() // it does nothing more
					<-ctx.Done()
					return ctx.Err()
				}
				h.mu.Lock()
				other = max(other, d.Lost)
				h.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				return ctx.Err()
			}, patterns.OrderBy(byKey), patterns.Workers(4), patterns.Prefetch(20))
			must(t, err)
			select {
			case <-dead:
				<-sub.Done()
				return true
			case <-living.Done():
			}
			must(t, sub.Stop(context.Background()))
			must(t, client.Close(context.Background()))
			return false
		}
		var supervisor sync.WaitGroup
		supervisor.Go(func() {
			for work() {
			}
		})
		time.Sleep(time.Hour)
		kill()
		supervisor.Wait()
		h.check(t, keys, each)
		letter, err := jobs.Dead().TryGet(t.Context())
		must(t, err)
		if letter.Value != poison || letter.Headers[patterns.HeaderReason] != "its worker was lost 5 times" ||
			letter.Headers[patterns.HeaderLosses] != "5" {
			t.Errorf("dead letter %v: %v", letter.Value, letter.Headers)
		}
		must(t, letter.Ack(t.Context()))
		if !slices.Equal(losses, []int{0, 1, 2, 3, 4}) || other > 2 {
			t.Errorf("it ran after %v losses, others after up to %d", losses, other)
		}
		for _, q := range []*patterns.WorkQueue[step]{jobs, jobs.Dead(), patterns.NewWorkQueue[step](bus, "jobs.losses", patterns.NoDeadLetter())} {
			if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
				t.Errorf("left in %s: %+v, %v", q.Name(), more, err)
			}
		}
	})
}

// TestOrderByKeyPastTheConsumerTimeout: a message that is held for too long is given up in the end,
// and what waited behind it is not.
func TestOrderByKeyPastTheConsumerTimeout(t *testing.T) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		bus := patterns.New(broker.Connect())
		defer bus.Close(t.Context())
		jobs := patterns.NewWorkQueue[step](bus, "jobs")
		for n := range 4 {
			must(t, jobs.Send(t.Context(), step{"k", n}))
		}
		seen := newJournal[string]()
		var losses []int
		sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
			d, _ := patterns.DeliveryFrom(ctx)
			if s.N > 0 {
				seen.add(s.String())
				return nil
			}
			losses = append(losses, d.Lost)
			<-ctx.Done()
			return nil
		}, patterns.OrderBy(byKey), patterns.Workers(2))
		must(t, err)
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if got := seen.snapshot(); !slices.Equal(got, []string{"k1", "k2", "k3"}) || !slices.Equal(losses, []int{0, 1, 2, 3, 4}) {
			t.Errorf("handled %v after %v losses of the first", got, losses)
		}
		if s := bus.Stats(); s.DeadLettered != 1 || s.TimedOut != 5 {
			t.Errorf("%+v", s)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestOrderByKeyNobodyIsLost: what comes back for a shutdown, or a cut of a process that lives, is
// not counted, however often.
func TestOrderByKeyNobodyIsLost(t *testing.T) {
	for name, happen := range map[string]func(*testing.T, *memory.Broker, *patterns.Subscription) bool{
		"shutdown": func(t *testing.T, _ *memory.Broker, sub *patterns.Subscription) bool {
			must(t, sub.Stop(t.Context()))
			return true
		},
		"cut": func(_ *testing.T, broker *memory.Broker, _ *patterns.Subscription) bool {
			broker.Cut()
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
				bus := patterns.New(broker.Connect())
				defer bus.Close(t.Context())
				jobs := patterns.NewWorkQueue[step](bus, "jobs")
				for n := range 3 {
					must(t, jobs.Send(t.Context(), step{"k", n}))
				}
				most, done := 0, false
				var order []int
				work := func() *patterns.Subscription {
					sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
						d, _ := patterns.DeliveryFrom(ctx)
						if most = max(most, d.Lost); done {
							order = append(order, s.N)
							return nil
						}
						<-ctx.Done()
						return ctx.Err()
					}, patterns.OrderBy(byKey), patterns.DrainTimeout(0))
					must(t, err)
					return sub
				}
				sub := work()
				for range 20 {
					time.Sleep(time.Minute)
					if happen(t, broker, sub) {
						sub = work()
					}
				}
				time.Sleep(time.Minute)
				must(t, sub.Stop(t.Context()))
				done = true
				sub = work()
				time.Sleep(time.Minute)
				must(t, sub.Stop(t.Context()))
				if !slices.Equal(order, []int{0, 1, 2}) || most > 2 {
					t.Errorf("handled %v, after up to %d losses", order, most)
				}
			})
		})
	}
}
