package patterns_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestPartitionOf: others can come to the same. The first three are the vectors of docs/wire.md.
func TestPartitionOf(t *testing.T) {
	for key, want := range map[string]int{"": 1, "a": 0, "customer-1": 4} {
		if got := patterns.PartitionOf(key, 8); got != want {
			t.Errorf("%q is in %d, not %d", key, got, want)
		}
	}
	count := make([]int, 8)
	for i := range 8000 {
		count[patterns.PartitionOf(fmt.Sprint(2*i), 8)]++
	}
	for i, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d has %d of 8000 keys", i, n)
		}
	}
}

// partProcess is one process of several that work on a queue with partitions.
type partProcess struct {
	client *memory.Client
	bus    *patterns.Bus
	sub    *patterns.Subscription
}

// kill ends it as kill -9 does: it loses all that it holds, and its handlers end.
func (p *partProcess) kill(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, p.client.Close(ended)) // first: nothing is settled any more
	_ = p.bus.Close(ended)
}

// TestPartitionsKeepOrder: whatever processes come and go, and however, the messages of a key are
// handled in order, and none is lost.
func TestPartitionsKeepOrder(t *testing.T) {
	const keys, each = 20, 12
	for seed := range uint64(6) {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			r := rand.New(rand.NewPCG(seed, 7))
			partitions := patterns.Partitions(5, byKey)
			sender := patterns.New(broker.Connect())
			defer sender.Close(context.Background())
			jobs := patterns.NewWorkQueue[step](sender, "jobs", partitions)
			sendSteps(t, jobs, r, keys, each)
			h := newHistory()
			var mu sync.Mutex
			random := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
			start := func() *partProcess {
				client := broker.Connect()
				p := &partProcess{client: client, bus: patterns.New(client)}
				var err error
				p.sub, err = patterns.NewWorkQueue[step](p.bus, "jobs", partitions).Work(t.Context(), func(ctx context.Context, s step) error {
					h.beginIn(ctx, s)
					fails := random(4) == 0
					select {
					case <-time.After(time.Duration(random(3000)) * time.Millisecond):
					case <-ctx.Done():
						fails = true
					}
					h.endIn(ctx, s, !fails)
					switch {
					case !fails:
						return nil
					case random(3) == 0:
						return patterns.Requeue(errKitchen)
					}
					return errKitchen
				}, patterns.Workers(4), patterns.Prefetch(20),
					patterns.Retry(patterns.RetryPolicy{Attempts: 1000, Max: 10 * time.Second}), patterns.DrainTimeout(time.Minute), patterns.LossLimit(1000))
				must(t, err)
				return p
			}
			processes := []*partProcess{start()}
			for range 16 {
				time.Sleep(time.Duration(500+random(6000)) * time.Millisecond)
				at := random(len(processes))
				switch what := random(6); {
				case what == 0 && len(processes) < 4, len(processes) == 1:
					processes = append(processes, start())
				case what < 2:
					must(t, processes[at].bus.Close(context.Background()))
					processes = slices.Delete(processes, at, at+1)
				case what == 2:
					processes[at].kill(t)
					processes = slices.Delete(processes, at, at+1)
				case what == 3:
					processes[at].client.Cut()
				case what == 4:
					broker.Restart()
				case what == 5: // a rolling deploy
					for i := range processes {
						next := start()
						must(t, processes[i].bus.Close(context.Background()))
						processes[i] = next
					}
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			h.check(t, keys, each)
			for _, p := range processes {
				must(t, p.bus.Close(context.Background()))
			}
			for i := range 5 {
				if info, err := sender.Driver().(adapters.Inspector).Inspect(t.Context(), fmt.Sprint("jobs.p", i)); err != nil || info.Ready+info.Unacked > 0 {
					t.Errorf("left: %+v, %v", info, err)
				}
			}
		})
	}
}

// beginIn is begin for a handler in one of several processes: that a message is handled once more
// by another while the first one has not heard yet that its session is lost is no disorder.
func (h *history) beginIn(ctx context.Context, s step) {
	h.mu.Lock()
	if other, ok := h.running[s.Key]; ok && other == s {
		delete(h.running, s.Key)
	}
	h.mu.Unlock()
	if ctx.Err() == nil {
		h.begin(s)
	}
}

func (h *history) endIn(ctx context.Context, s step, ok bool) {
	if ctx.Err() != nil { // what it did comes again
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.running[s.Key] == s {
			delete(h.running, s.Key)
		}
		return
	}
	h.end(s, ok)
}

// TestPartitionsAreShared: over the processes, and again when one comes or goes.
func TestPartitionsAreShared(t *testing.T) {
	t.Run("whose members are counted", func(t *testing.T) {
		testPartitionsAreShared(t, func(broker *memory.Broker) adapters.Driver { return broker.Connect() })
	})
	t.Run("whose consumers are counted", func(t *testing.T) {
		testPartitionsAreShared(t, func(broker *memory.Broker) adapters.Driver {
			return countedDriver{&lackingDriver{broker.Connect(), adapters.CanAutoDelete | adapters.CanInspect}, broker.Connect()}
		})
	})
}

// countedDriver is a driver whose subscriptions know how many consumers there are.
type countedDriver struct {
	*lackingDriver
	looks *memory.Client
}

func (d countedDriver) Close(ctx context.Context) error {
	return errors.Join(d.lackingDriver.Close(ctx), d.looks.Close(ctx))
}

func (d countedDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := d.lackingDriver.Subscribe(ctx, s)
	return countedSubscription{sub, d.looks}, err
}

type countedSubscription struct {
	adapters.Subscription
	looks *memory.Client
}

func (s countedSubscription) StopAndReturn() error {
	return s.Subscription.(adapters.Returner).StopAndReturn()
}

func (s countedSubscription) Consumers() int {
	info, _ := s.looks.Inspect(context.Background(), s.Address())
	return info.Consumers
}

func testPartitionsAreShared(t *testing.T, connect func(*memory.Broker) adapters.Driver) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		const n = 10
		keyIn := map[int]string{} // one for each partition
		for i := 0; len(keyIn) < n; i++ {
			key := fmt.Sprint("k", i)
			keyIn[patterns.PartitionOf(key, n)] = key
		}
		partitions := patterns.Partitions(n, byKey)
		var mu sync.Mutex
		handled := map[int]map[int]bool{} // partitions by process
		start := func(id int) *patterns.Bus {
			bus := patterns.New(connect(broker))
			_, err := patterns.NewWorkQueue[step](bus, "jobs", partitions).Work(t.Context(), func(_ context.Context, s step) error {
				mu.Lock()
				defer mu.Unlock()
				if handled[id] == nil {
					handled[id] = map[int]bool{}
				}
				handled[id][patterns.PartitionOf(s.Key, n)] = true
				return nil
			})
			must(t, err)
			return bus
		}
		first := start(1)
		jobs := patterns.NewWorkQueue[step](first, "jobs", partitions)
		round := 0
		shares := func() map[int]int {
			clear(handled)
			for _, key := range keyIn {
				must(t, jobs.Send(t.Context(), step{key, round}))
			}
			round++
			synctest.Wait()
			all, by := map[int]bool{}, map[int]int{}
			for id, parts := range handled {
				by[id] = len(parts)
				for p := range parts {
					if all[p] {
						t.Errorf("partition %d is handled by two processes", p)
					}
					all[p] = true
				}
			}
			if len(all) != n {
				t.Errorf("%d of %d partitions were handled", len(all), n)
			}
			return by
		}
		second := start(2)
		atMost := func(share int) {
			t.Helper()
			for range 30 { // what nothing comes from is not known to be anybody's
				shares()
				time.Sleep(time.Second)
			}
			got := shares()
			for _, has := range got {
				if has > share {
					t.Errorf("the partitions are shared as %v", got)
				}
			}
		}
		atMost(5)
		third := start(3)
		atMost(4)
		must(t, second.Close(context.Background()))
		atMost(5)
		must(t, third.Close(context.Background()))
		must(t, first.Close(context.Background()))
	})
}

// TestPartitionsSend: each verb puts a message into the partition of its key.
func TestPartitionsSend(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(4, byKey))
		var want []string
		verbs := map[string]func(...step) error{
			"Send": func(s ...step) error { return jobs.Send(t.Context(), s[0]) },
			"SendAsync": func(s ...step) error {
				r, err := jobs.SendAsync(t.Context(), s[0])
				if err != nil {
					return err
				}
				return r.Wait(t.Context())
			},
			"SendBatch": func(s ...step) error { return jobs.SendBatch(t.Context(), s) },
			"SendItems": func(s ...step) error {
				var items []patterns.Item[step]
				for _, s := range s {
					items = append(items, patterns.Item[step]{Value: s, Options: []patterns.PublishOption{patterns.MessageID(s.String())}})
				}
				return jobs.SendItems(t.Context(), items)
			},
		}
		for _, verb := range slices.Sorted(maps.Keys(verbs)) {
			var values []step
			for i := range 20 {
				values = append(values, step{fmt.Sprint(verb, i), 0})
			}
			if verb == "Send" || verb == "SendAsync" {
				values = values[:1]
			}
			must(t, verbs[verb](values...))
			for _, s := range values {
				want = append(want, fmt.Sprint("jobs.p", patterns.PartitionOf(s.Key, 4), " ", s))
			}
		}
		var got []string
		for i := range 4 {
			name := fmt.Sprint("jobs.p", i)
			letters, err := bus.Driver().(adapters.Inspector).Browse(t.Context(), name, 100)
			must(t, err)
			for _, d := range letters {
				var s step
				must(t, json.Unmarshal(d.Message.Payload, &s))
				got = append(got, fmt.Sprint(name, " ", s))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestPartitionsSchedule: what a schedule sends, and what is taken back, is in a partition, too.
func TestPartitionsSchedule(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(4, byKey))
		must(t, jobs.Send(t.Context(), step{"later", 0}, patterns.Delay(time.Hour), patterns.MessageID("m")))
		must(t, jobs.Cancel(t.Context(), "m"))
		if err := jobs.Cancel(t.Context(), "m"); !errors.Is(err, adapters.ErrNotFound) {
			t.Errorf("cancelled twice: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		_, err := jobs.Schedule(ctx, "hourly", patterns.Every(time.Hour), func(time.Time) step { return step{"a", 0} })
		must(t, err)
		time.Sleep(150 * time.Minute)
		name := fmt.Sprint("jobs.p", patterns.PartitionOf("a", 4))
		if info, _ := broker.Queue(name); info.Ready != 2 {
			t.Errorf("%s has %+v", name, info)
		}
	})
}

// TestPartitionsDeadLetters: they are in one queue, and go back to where they were.
func TestPartitionsDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(4, byKey))
		must(t, jobs.SendBatch(t.Context(), []step{{"a", 0}, {"b", 0}, {"c", 0}}))
		var repaired bool
		done := newJournal[string]()
		sub, err := jobs.Work(t.Context(), func(_ context.Context, s step) error {
			if !repaired {
				return patterns.Reject(errKitchen)
			}
			done.add(s.String())
			return nil
		})
		must(t, err)
		synctest.Wait()
		if info, _ := broker.Queue("jobs.dead"); info.Ready != 3 {
			t.Fatalf("%+v", info)
		}
		repaired = true
		n, err := jobs.Dead().Redrive(t.Context())
		must(t, err)
		synctest.Wait()
		if got := done.snapshot(); n != 3 || len(got) != 3 {
			t.Errorf("%d were sent back, and %v handled", n, got)
		}
		must(t, sub.Stop(t.Context()))
		if _, ok := broker.Queue("jobs"); ok {
			t.Error("there is a queue besides the partitions")
		}
	})
}

// TestPartitionsOvertakeRetries: over the broker, into the same partition.
func TestPartitionsOvertakeRetries(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(4, byKey))
		must(t, jobs.SendBatch(t.Context(), []step{{"a", 0}, {"a", 1}}))
		seen := newJournal[string]()
		sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
			seen.add(s.String())
			if d, _ := patterns.DeliveryFrom(ctx); s.N == 0 && d.Attempt < 2 {
				return errKitchen
			}
			return nil
		}, patterns.OvertakeRetries())
		must(t, err)
		time.Sleep(time.Minute)
		if got := seen.snapshot(); !slices.Equal(got, []string{"a0", "a1", "a0"}) {
			t.Errorf("handled %v", got)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestPartitionsAreAsMany: who knows of fewer is refused, and sends nothing.
func TestPartitionsAreAsMany(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		must(t, patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(4, byKey)).Declare(t.Context()))
		few := func() *patterns.WorkQueue[step] {
			return patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(3, byKey))
		}
		_, err := few().Work(t.Context(), func(context.Context, step) error { return nil })
		for verb, err := range map[string]error{
			"Work": err, "Declare": few().Declare(t.Context()), "Send": few().Send(t.Context(), step{}), "SendBatch": few().SendBatch(t.Context(), []step{{}, {}}),
		} {
			if !errors.Is(err, adapters.ErrMismatch) {
				t.Errorf("%s: %v", verb, err)
			}
		}
		must(t, broker.DeleteQueue("jobs.p3"))
		must(t, few().Send(t.Context(), step{}))
		must(t, patterns.NewWorkQueue[step](bus, "jobs", patterns.Partitions(8, byKey)).Declare(t.Context()))
	})
}

// TestPartitionsRefused: what has no order is refused by name.
func TestPartitionsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		partitions := patterns.Partitions(4, byKey)
		handler := func(context.Context, step) error { return nil }
		queue := func(name string, opts ...patterns.WorkQueueOption) error {
			return patterns.NewWorkQueue[step](bus, name, opts...).Declare(t.Context())
		}
		jobs := patterns.NewWorkQueue[step](bus, "jobs", partitions)
		work := func(opts ...patterns.WorkOption) error {
			_, err := jobs.Work(t.Context(), handler, opts...)
			return err
		}
		_, getErr := jobs.Get(t.Context())
		_, tryErr := jobs.TryGet(t.Context())
		_, batchErr := jobs.WorkBatch(t.Context(), func(context.Context, []step) error { return nil })
		var waitErr error
		for _, waitErr = range jobs.Waiting(t.Context()) {
		}
		for what, err := range map[string]error{
			"0":            queue("q", patterns.Partitions(0, byKey)),
			"257":          queue("q", patterns.Partitions(257, byKey)),
			"nil":          queue("q", patterns.Partitions[step](4, nil)),
			"twice":        queue("q", partitions, partitions),
			"another type": queue("q", patterns.Partitions(4, func(s string) string { return s })),
			"Passive":      queue("q", partitions, patterns.Passive()),
			"dead letters": queue("q.dead", partitions),
			"a long name":  queue(strings.Repeat("q", adapters.MaxNameBytes-2), partitions, patterns.DeadLetter("d")),
			"AckOnReceive": work(patterns.AckOnReceive()),
			"OrderBy":      work(patterns.OrderBy(byKey)),
			"a gate":       work(patterns.WithGate(newLatch(true))),
			"Get":          getErr, "TryGet": tryErr, "WorkBatch": batchErr, "Waiting": waitErr,
			"one id for two": jobs.SendBatch(t.Context(), []step{{}, {}}, patterns.MessageID("m")),
		} {
			if !errors.Is(err, adapters.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		panics := patterns.NewWorkQueue[step](bus, "panics", patterns.Partitions(4, func(step) string { panic("no key") }))
		var p *patterns.PanicError
		if err := panics.Send(t.Context(), step{}); !errors.As(err, &p) {
			t.Errorf("a function that panics: %v", err)
		}
	})
}
