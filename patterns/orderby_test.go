package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// step is the n-th message of its key.
type step struct {
	Key string
	N   int
}

func (s step) String() string { return fmt.Sprint(s.Key, s.N) }

func byKey(s step) string { return s.Key }

// history checks the order of each key.
type history struct {
	mu      sync.Mutex
	running map[string]step
	next    map[string]int // the first that was not begun
	done    map[step]int
	most    int
	errs    []string
}

func newHistory() *history {
	return &history{running: map[string]step{}, next: map[string]int{}, done: map[step]int{}}
}

// begin notes that a handler has begun. The first time that is in order, and nothing else of the
// key is in a handler. What was begun may begin again.
func (h *history) begin(s step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, ok := h.running[s.Key]; ok {
		h.errs = append(h.errs, fmt.Sprintf("%v begins while %v runs", s, other))
	}
	h.running[s.Key] = s
	h.most = max(h.most, len(h.running))
	switch next := h.next[s.Key]; {
	case s.N == next:
		h.next[s.Key]++
	case s.N > next:
		h.errs = append(h.errs, fmt.Sprintf("%v begins before %d", s, next))
	}
}

// end notes that it has returned: with success, if ok.
func (h *history) end(s step, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.running, s.Key)
	if !ok {
		return
	}
	for n := range s.N { // all before were done, or given up
		if h.done[step{s.Key, n}] == 0 {
			h.errs = append(h.errs, fmt.Sprintf("%v is done before %d", s, n))
		}
	}
	h.done[s]++
}

func (h *history) check(t *testing.T, keys, each int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, err := range h.errs {
		if i < 10 {
			t.Error(err)
		}
	}
	if len(h.done) != keys*each {
		t.Errorf("%d of %d were done", len(h.done), keys*each)
	}
}

// sendSteps sends the messages of all keys, mixed at random.
func sendSteps(t *testing.T, q *patterns.WorkQueue[step], r *rand.Rand, keys, each int) {
	t.Helper()
	sent := make([]int, keys)
	for range keys * each {
		k := r.IntN(keys)
		for sent[k] == each {
			k = (k + 1) % keys
		}
		s := step{fmt.Sprint("k", k), sent[k]}
		sent[k]++
		must(t, q.Send(t.Context(), s, patterns.MessageID(s.String())))
	}
}

// TestOrderByKey: whatever happens, the messages of a key are handled one after another, in order.
func TestOrderByKey(t *testing.T) {
	const keys, each, workers = 20, 12, 8
	for seed := range uint64(8) {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			r := rand.New(rand.NewPCG(seed, 1))
			bus := patterns.New(broker.Connect())
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[step](bus, "jobs")
			sendSteps(t, jobs, r, keys, each)
			h := newHistory()
			var mu sync.Mutex
			random := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
			work := func() *patterns.Subscription {
				sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
					h.begin(s)
					fails := random(4) == 0
					defer func() { h.end(s, !fails) }()
					time.Sleep(time.Duration(random(3000)) * time.Millisecond) // heeds nothing
					switch {
					case !fails:
						return nil
					case random(3) == 0:
						return patterns.Requeue(errKitchen)
					}
					return errKitchen
				}, patterns.OrderBy(byKey), patterns.Workers(workers), patterns.Prefetch(60),
					patterns.Retry(patterns.RetryPolicy{Attempts: 1000, Max: 10 * time.Second}), patterns.DrainTimeout(time.Minute))
				must(t, err)
				return sub
			}
			sub := work()
			for range 12 {
				time.Sleep(time.Duration(500+random(8000)) * time.Millisecond)
				switch random(3) {
				case 0:
					must(t, sub.Stop(t.Context()))
					sub = work()
				case 1:
					broker.Cut()
				case 2:
					broker.Restart()
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			h.check(t, keys, each)
			if h.most < workers {
				t.Errorf("at most %d ran at a time, of %d workers", h.most, workers)
			}
			must(t, sub.Stop(t.Context()))
			for _, q := range []*patterns.WorkQueue[step]{jobs, jobs.Dead()} {
				if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
					t.Errorf("left: %+v, %v", more, err)
				}
			}
		})
	}
}

// TestOrderByKeyDoesNotBlockOthers: a key that waits keeps no worker, and others are handled as far
// ahead as the prefetch reaches, and no further.
func TestOrderByKeyDoesNotBlockOthers(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs")
		const prefetch = 20
		for n := range prefetch - 1 {
			must(t, jobs.Send(t.Context(), step{"slow", n}))
		}
		must(t, jobs.Send(t.Context(), step{"other", 0}))
		must(t, jobs.Send(t.Context(), step{"beyond", 0}))
		seen := newJournal[string]()
		release := make(chan struct{})
		sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
			seen.add(s.String())
			if s.Key == "slow" {
				<-release
			}
			return nil
		}, patterns.OrderBy(byKey), patterns.Workers(3), patterns.Prefetch(prefetch))
		must(t, err)
		synctest.Wait()
		if got := slices.Sorted(slices.Values(seen.snapshot())); !slices.Equal(got, []string{"beyond0", "other0", "slow0"}) {
			t.Errorf("handled %v", got)
		}
		for n := range prefetch { // now it is full of one key
			must(t, jobs.Send(t.Context(), step{"slow", prefetch - 1 + n}))
		}
		must(t, jobs.Send(t.Context(), step{"far", 0}))
		synctest.Wait()
		if got := seen.snapshot(); len(got) != 3 {
			t.Errorf("more than the prefetch was fetched: %v", got)
		}
		close(release)
		synctest.Wait()
		if got := seen.snapshot(); len(got) != 2*prefetch+2 || !slices.Contains(got, "far0") {
			t.Errorf("handled %v", got)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestOrderByKeyRetries: a message that is tried again keeps its place, or lets others pass.
func TestOrderByKeyRetries(t *testing.T) {
	for name, x := range map[string]struct {
		opts []patterns.WorkOption
		want []string
	}{
		"waiting":               {nil, []string{"a0", "b0", "a0", "a0", "a1", "a2"}},
		"overtaking":            {[]patterns.WorkOption{patterns.OvertakeRetries()}, []string{"a0", "a1", "a2", "b0", "a0", "a0"}},
		"overtaking in process": {[]patterns.WorkOption{patterns.OvertakeRetries(), patterns.Retry(patterns.RetryPolicy{InProcess: true})}, []string{"a0", "a1", "a2", "b0", "a0", "a0"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				jobs := patterns.NewWorkQueue[step](bus, "jobs")
				for _, s := range []step{{"a", 0}, {"a", 1}, {"a", 2}, {"b", 0}} {
					must(t, jobs.Send(t.Context(), s))
				}
				seen := newJournal[string]()
				sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
					d, _ := patterns.DeliveryFrom(ctx)
					seen.add(s.String())
					if s == (step{"a", 0}) && d.Attempt < 3 {
						return errKitchen
					}
					return nil
				}, append(x.opts, patterns.OrderBy(byKey))...)
				must(t, err)
				time.Sleep(time.Minute)
				if got := seen.snapshot(); !slices.Equal(got, x.want) {
					t.Errorf("handled %v, want %v", got, x.want)
				}
				if s := bus.Stats(); s.Retried != 2 || s.DeadLettered != 0 {
					t.Errorf("%+v", s)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// TestOrderByKeyGivesBackInOrder: also what was fetched behind a message whose handler goes on, and
// one that waits to be tried again.
func TestOrderByKeyGivesBackInOrder(t *testing.T) {
	for _, heed := range []bool{true, false} {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			bus := patterns.New(broker.Connect())
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[step](bus, "jobs")
			var want []string
			for n := range 10 {
				for _, key := range []string{"slow", "fails", "free"} {
					s := step{key, n}
					must(t, jobs.Send(t.Context(), s))
					if want = append(want, s.String()); key == "free" && n < 3 { // which the prefetch reaches
						want = want[:len(want)-1]
					}
				}
			}
			forever := make(chan struct{})
			sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
				switch s.Key {
				case "fails":
					return errKitchen
				case "slow":
					if <-ctx.Done(); !heed {
						<-forever
					}
					return ctx.Err()
				}
				return nil
			}, patterns.OrderBy(byKey), patterns.Workers(2), patterns.Prefetch(8), patterns.DrainTimeout(time.Second),
				patterns.Retry(patterns.RetryPolicy{Min: time.Hour, Max: time.Hour}))
			must(t, err)
			synctest.Wait()
			err = sub.Stop(t.Context())
			if heed {
				must(t, err)
			} else {
				wantErr(t, "a handler that goes on", err, patterns.ErrAbandoned)
			}
			close(forever)
			var got []string
			for d, err := range jobs.Waiting(t.Context()) {
				must(t, err)
				got = append(got, d.Value.String())
				must(t, d.Ack(t.Context()))
			}
			if !slices.Equal(got, want) {
				t.Errorf("left: %v\nwant: %v", got, want)
			}
		})
	}
}

// TestOrderByUsesAllWorkers: messages of different keys are handled at the same time, by workers
// that were idle, however they come: one by one, together, or once others have returned.
func TestOrderByUsesAllWorkers(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[order](bus, "orders")
		k := &kitchen{}
		sub, err := orders.Work(t.Context(), k.cook, patterns.Workers(8),
			patterns.OrderBy(func(o order) string { return o.Dish }))
		must(t, err)
		for round := range 3 {
			for i := range 8 {
				must(t, orders.Send(t.Context(), order{ID: i, Dish: string(rune('a' + i))}))
				must(t, orders.Send(t.Context(), order{ID: i, Dish: string(rune('a' + i))})) // waits for the other
				if round == 0 {
					time.Sleep(time.Second)
				}
			}
			synctest.Wait()
			if now := k.now.Load(); now != 8 {
				t.Errorf("round %d: %d of 8 workers are busy", round, now)
			}
			time.Sleep(time.Minute + 30*time.Second)
			if now := k.now.Load(); now != 8 {
				t.Errorf("round %d: %d of 8 workers are busy with those that waited", round, now)
			}
			time.Sleep(10 * time.Minute)
		}
		must(t, sub.Stop(t.Context()))
	})
}
