package patterns_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// kitchen is a handler that takes a minute for each order, and says how many it cooks at a time.
type kitchen struct {
	now, top atomic.Int32
	mu       sync.Mutex
	cooked   []int
}

func (k *kitchen) cook(ctx context.Context, o order) error {
	now := k.now.Add(1)
	defer k.now.Add(-1)
	for top := k.top.Load(); now > top && !k.top.CompareAndSwap(top, now); top = k.top.Load() {
	}
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cooked = append(k.cooked, o.ID)
	return nil
}

func (k *kitchen) done() []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(slices.Values(k.cooked))
}

func sendOrders(t *testing.T, orders *patterns.WorkQueue[order], n int) {
	t.Helper()
	for i := range n {
		must(t, orders.Send(t.Context(), order{ID: i}))
	}
}

func ready(t *testing.T, broker *memory.Broker, queue string) int {
	t.Helper()
	client := broker.Connect()
	defer client.Close(context.Background())
	info, err := client.Inspect(t.Context(), queue)
	must(t, err)
	return info.Ready
}

// TestPause: what was fetched goes back, what is in hand is finished, and nothing more is handled
// until Resume. It holds behind a gate, too.
func TestPause(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{
		"plain":                   nil,
		"gated":                   {patterns.WithGate(newOpenLatch(true))},
		"gated, one at a time":    {patterns.WithGate(newOpenLatch(false))},
		"gated, and none to come": {patterns.WithGate(newOpenLatch(true)), patterns.Prefetch(2)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				orders := patterns.NewWorkQueue[order](bus, "orders")
				sendOrders(t, orders, 10)
				k := &kitchen{}
				opts := append([]patterns.WorkOption{patterns.Workers(2)}, opts...)
				if name == "plain" {
					opts = append(opts, patterns.Prefetch(6))
				}
				sub, err := orders.Work(t.Context(), k.cook, opts...)
				must(t, err)
				time.Sleep(90 * time.Second) // each has cooked one, and is at the next
				if got := only(t, bus).State; got != patterns.StateRunning {
					t.Errorf("state %s", got)
				}
				soon, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				wantErr(t, "a pause that may not wait for handlers", sub.Pause(soon), context.DeadlineExceeded)
				if left := ready(t, broker, "orders"); left != 6 {
					t.Errorf("%d are left, want 6", left)
				}
				must(t, sub.Pause(t.Context()))
				if done := len(k.done()); done != 4 {
					t.Errorf("%d were cooked when Pause returned, want 4", done)
				}
				if h := only(t, bus); h.State != patterns.StatePaused || h.InHand != 0 {
					t.Errorf("health %+v", h)
				}
				if problems := bus.Health().Problems(); len(problems) > 0 {
					t.Errorf("a pause is a problem: %v", problems)
				}
				time.Sleep(24 * time.Minute)
				if done := len(k.done()); done != 4 || k.now.Load() != 0 {
					t.Errorf("%d were cooked while paused, want 4", done)
				}
				sub.Resume()
				sub.Resume()
				time.Sleep(24 * time.Minute)
				if done := k.done(); !slices.Equal(done, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) || k.top.Load() != 2 {
					t.Errorf("cooked %v, %d at a time", done, k.top.Load())
				}
				for i := range 3 {
					must(t, sub.Pause(t.Context()))
					must(t, orders.Send(t.Context(), order{ID: 10}))
					time.Sleep(3 * time.Minute)
					if len(k.done()) != 10+i {
						t.Errorf("cooked while paused")
					}
					sub.Resume()
					time.Sleep(3 * time.Minute)
					if len(k.done()) != 11+i {
						t.Errorf("not cooked after Resume: %v", k.done())
					}
				}
				must(t, sub.Pause(t.Context()))
				must(t, sub.Stop(t.Context())) // paused
				must(t, sub.Pause(t.Context()))
			})
		})
	}
}

func newOpenLatch(ahead bool) *latch {
	l := newLatch(ahead)
	l.set(true)
	return l
}

// TestPausePrivate: a private subscription has what came meanwhile.
func TestPausePrivate(t *testing.T) {
	for name, opts := range map[string][]patterns.SubscribeOption{"plain": nil, "gated": {patterns.WithGate(newOpenLatch(true))}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				news := patterns.NewPubSub[order](bus, "news")
				k := &kitchen{}
				sub, err := news.Subscribe(t.Context(), k.cook, opts...)
				must(t, err)
				must(t, sub.Pause(t.Context()))
				for i := range 3 {
					must(t, news.Publish(t.Context(), order{ID: i}))
				}
				time.Sleep(24 * time.Minute)
				if len(k.done()) > 0 {
					t.Errorf("cooked %v while paused", k.done())
				}
				sub.Resume()
				time.Sleep(24 * time.Minute)
				if len(k.done()) != 3 {
					t.Errorf("cooked %v", k.done())
				}
			})
		})
	}
}

// TestPauseByHandler: it does not wait for itself, and its message counts.
func TestPauseByHandler(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[order](bus, "orders")
		sendOrders(t, orders, 2)
		var sub *patterns.Subscription
		begun := make(chan struct{})
		handled := 0
		sub, err := orders.Work(t.Context(), func(context.Context, order) error {
			<-begun
			over, cancel := context.WithCancel(t.Context())
			cancel()
			handled++
			return errors.Join(nilIf(sub.Pause(over), context.Canceled))
		})
		must(t, err)
		close(begun)
		time.Sleep(time.Second)
		synctest.Wait()
		if handled != 1 {
			t.Errorf("%d were handled", handled)
		}
		sub.Resume()
		time.Sleep(time.Second)
		synctest.Wait()
		if handled != 2 {
			t.Errorf("%d were handled after Resume", handled)
		}
	})
}

func nilIf(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return errors.New("no such error")
}

// TestSetWorkers: more and fewer while it runs.
func TestSetWorkers(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[order](bus, "orders")
		sendOrders(t, orders, 100)
		k := &kitchen{}
		sub, err := orders.Work(t.Context(), k.cook, patterns.Prefetch(8))
		must(t, err)
		for _, n := range []int{0, -1, 9} {
			wantErr(t, "a number that cannot be", sub.SetWorkers(n), adapters.ErrInvalid)
		}
		total := 0
		for _, n := range []int{1, 8, 3, 3, 5, 1} {
			must(t, sub.SetWorkers(n))
			time.Sleep(time.Second)
			before := len(k.done())
			if h := only(t, bus); h.Workers != n {
				t.Errorf("%d workers by health, want %d", h.Workers, n)
			}
			time.Sleep(2 * time.Minute) // those that are one too many finish in the first minute
			k.top.Store(0)
			time.Sleep(time.Minute)
			if top := int(k.top.Load()); top != n {
				t.Errorf("with %d workers %d were cooked at a time", n, top)
			}
			total += len(k.done()) - before
		}
		must(t, sub.Pause(t.Context()))
		must(t, sub.SetWorkers(4)) // while it is paused
		must(t, sub.SetWorkers(2))
		must(t, sub.SetWorkers(4))
		sub.Resume()
		time.Sleep(200 * time.Minute)
		if done := k.done(); len(done) != 100 || len(slices.Compact(done)) != 100 {
			t.Errorf("cooked %v", done)
		}
		must(t, sub.Stop(t.Context()))
		wantErr(t, "after its end", sub.SetWorkers(1), adapters.ErrStopped)
	})
}

// TestFlowStress: pausing, resuming and resizing at random loses nothing and does nothing twice.
func TestFlowStress(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{"plain": nil, "gated": {patterns.WithGate(newOpenLatch(true))}} {
		t.Run(name, func(t *testing.T) {
			bus, _ := newBus(t)
			orders := patterns.NewWorkQueue[order](bus, "orders")
			const n = 2000
			var mu sync.Mutex
			seen := map[int]int{}
			sub, err := orders.Work(t.Context(), func(_ context.Context, o order) error {
				mu.Lock()
				defer mu.Unlock()
				seen[o.ID]++
				return nil
			}, append(opts, patterns.Workers(4), patterns.Prefetch(16))...)
			must(t, err)
			var flow sync.WaitGroup
			for i := range 3 {
				flow.Go(func() {
					for j := range 100 {
						if i < 2 {
							must(t, sub.Pause(bounded(t)))
							sub.Resume()
						} else {
							must(t, sub.SetWorkers(1+j%16))
						}
					}
				})
			}
			for i := range n {
				must(t, orders.Send(bounded(t), order{ID: i}))
			}
			flow.Wait()
			for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
				mu.Lock()
				all := len(seen) == n
				mu.Unlock()
				if all {
					break
				}
			}
			must(t, sub.Stop(bounded(t)))
			if len(seen) != n {
				t.Errorf("%d of %d were handled", len(seen), n)
			}
			for id, times := range seen {
				if times != 1 {
					t.Errorf("%d was handled %d times", id, times)
				}
			}
		})
	}
}
