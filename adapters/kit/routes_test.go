package kit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// memoryRecords are records in a map. Hooks are called before the operation, without the lock.
type memoryRecords struct {
	mu        sync.Mutex
	text      map[string]string
	revisions map[string]uint64
	loads     int

	onLoad  func(context.Context) error
	onStore func() error
}

func newRecords() *memoryRecords {
	return &memoryRecords{text: map[string]string{}, revisions: map[string]uint64{}}
}

func (r *memoryRecords) Load(ctx context.Context, exchange string) ([]byte, uint64, error) {
	if r.onLoad != nil {
		if err := r.onLoad(ctx); err != nil {
			return nil, 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loads++
	return []byte(r.text[exchange]), r.revisions[exchange], nil
}

func (r *memoryRecords) Store(_ context.Context, exchange string, record []byte, revision uint64) error {
	if r.onStore != nil {
		if err := r.onStore(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revisions[exchange] != revision {
		return fmt.Errorf("%w by somebody", kit.ErrChanged)
	}
	r.text[exchange] = string(record)
	r.revisions[exchange]++
	return nil
}

// newRoutes returns routes, and what another program would have.
func newRoutes(t *testing.T) (one, other *kit.Routes, r *memoryRecords) {
	t.Helper()
	r, tasks := newRecords(), kit.NewTasks()
	t.Cleanup(func() { tasks.Close(); tasks.Wait() })
	return kit.NewRoutes(r, tasks), kit.NewRoutes(r, tasks), r
}

func endpoint(k adapters.Kind, name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: k, Name: name}
}

func queue(name string) kit.Bound { return kit.Bound{Queue: name, ID: "1"} }

// wantRoute checks which queues get a message.
func wantRoute(t *testing.T, r *kit.Routes, e adapters.Endpoint, key string, want ...string) {
	t.Helper()
	bound, err := r.Route(t.Context(), e, key)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range bound {
		got = append(got, b.Queue)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q to %s is routed to %q, want %q", key, e, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoutes(t *testing.T) {
	ctx := t.Context()
	one, other, _ := newRoutes(t)

	news := endpoint(adapters.Fanout, "news")
	wantRoute(t, one, news, "") // which declares it
	must(t, one.Bind(ctx, news, queue("a")))
	must(t, other.Bind(ctx, news, queue("b")))
	must(t, other.Bind(ctx, news, queue("b"))) // again
	wantRoute(t, one, news, "", "a", "b")
	must(t, one.Unbind(ctx, news, "a"))
	wantRoute(t, other, news, "", "b")

	keys := endpoint(adapters.Direct, "keys")
	must(t, one.Bind(ctx, keys, queue("a"), "x", "y"))
	must(t, other.Bind(ctx, keys, queue("a"), "y", "z")) // they add up
	must(t, other.Bind(ctx, keys, queue("b"), "y", "*"))
	wantRoute(t, one, keys, "x", "a")
	wantRoute(t, one, keys, "y", "a", "b") // one copy each
	wantRoute(t, one, keys, "Y")
	must(t, one.Unbind(ctx, keys, "a", "y", "none"))
	wantRoute(t, other, keys, "y", "b")
	wantRoute(t, other, keys, "z", "a")
	must(t, one.Unbind(ctx, keys, "a", "x", "z"))
	wantRoute(t, other, keys, "z")

	topic := endpoint(adapters.Topic, "topic")
	must(t, one.Bind(ctx, topic, queue("a"), "a.#", "a.*", "#.#.b"))
	wantRoute(t, other, topic, "a.b", "a")
	wantRoute(t, other, topic, "c.b", "a")
	must(t, other.Unbind(ctx, topic, "a", "#.b")) // another spelling of the pattern
	wantRoute(t, one, topic, "c.b")
	wantRoute(t, one, topic, "a.b", "a")

	bound, err := other.Bindings(ctx, "topic", queue("a"))
	if want := []adapters.Binding{{Exchange: "topic", Key: "a.#"}, {Exchange: "topic", Key: "a.*"}}; err != nil || !slices.Equal(bound, want) {
		t.Errorf("bound by %v, %v; want %v", bound, err, want)
	}
	bound, err = other.Bindings(ctx, "news", queue("b"))
	if want := []adapters.Binding{{Exchange: "news"}}; err != nil || !slices.Equal(bound, want) {
		t.Errorf("bound by %v, %v; want %v", bound, err, want)
	}
	for _, none := range []kit.Bound{queue("a"), {Queue: "b", ID: "2"}} { // the latter was deleted
		if bound, err = other.Bindings(ctx, "news", none); len(bound) > 0 || err != nil {
			t.Errorf("bound by %v, %v; want none", bound, err)
		}
	}
	if kind, err := other.Kind(ctx, "topic"); kind != "topic" || err != nil {
		t.Errorf("the kind is %q, %v", kind, err)
	}
	if _, err := other.Kind(ctx, "none"); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("the kind of a missing exchange: %v", err)
	}
	if all, err := other.Queues(ctx, "topic"); err != nil || !slices.Equal(all, []kit.Bound{queue("a")}) {
		t.Errorf("bound are %v, %v", all, err)
	}
}

func TestRoutesRefuse(t *testing.T) {
	ctx := t.Context()
	r, _, records := newRoutes(t)
	existing := endpoint(adapters.Exchange, "e")
	if _, err := r.Route(ctx, existing, ""); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("routed by an exchange that does not exist: %v", err)
	}
	must(t, r.Unbind(ctx, endpoint(adapters.Fanout, "e"), "a"))
	must(t, r.Remove(ctx, existing, queue("a")))
	if len(records.text) != 0 {
		t.Errorf("made: %v", records.text)
	}
	must(t, r.Bind(ctx, endpoint(adapters.Direct, "e"), queue("a"), "key"))
	wantRoute(t, r, existing, "key", "a")
	wantRoute(t, r, existing, "other")
	for what, err := range map[string]error{
		"declared": r.Declare(ctx, endpoint(adapters.Topic, "e")),
		"bound":    r.Bind(ctx, endpoint(adapters.Fanout, "e"), queue("b")),
		"unbound":  r.Unbind(ctx, endpoint(adapters.Fanout, "e"), "a"),
	} {
		if !errors.Is(err, adapters.ErrMismatch) {
			t.Errorf("%s as another kind: %v", what, err)
		}
	}
	if _, err := r.Route(ctx, endpoint(adapters.Fanout, "e"), ""); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("routed as another kind: %v", err)
	}
	records.text["e"] = "torn"
	records.revisions["e"]++
	if _, err := r.Route(ctx, existing, ""); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("routed by what is no record: %v", err)
	}
}

// TestRoutesOfDeletedQueues: the bindings of a queue end with it, and not with another of its name.
func TestRoutesOfDeletedQueues(t *testing.T) {
	ctx := t.Context()
	r, _, _ := newRoutes(t)
	e := endpoint(adapters.Direct, "e")
	first, second := kit.Bound{Queue: "q", ID: "1"}, kit.Bound{Queue: "q", ID: "2"}
	must(t, r.Bind(ctx, e, first, "old", "both"))
	must(t, r.Bind(ctx, e, second, "both")) // after q was deleted and made again
	wantRoute(t, r, e, "old")
	wantRoute(t, r, e, "both", "q")
	must(t, r.Remove(ctx, e, first)) // by a publisher who noticed late
	wantRoute(t, r, e, "both", "q")
	must(t, r.Remove(ctx, endpoint(adapters.Exchange, "e"), second))
	wantRoute(t, r, e, "both")
}

// TestRoutesAtOnce: no change is lost where many are made at the same time.
func TestRoutesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other, records := newRoutes(t)
		afterAWhile := func() error { time.Sleep(time.Millisecond); return nil }
		records.onLoad = func(context.Context) error { return afterAWhile() }
		records.onStore = afterAWhile
		e := endpoint(adapters.Topic, "e")
		const n = 20
		var all sync.WaitGroup
		for i := range n {
			r := []*kit.Routes{one, other}[i%2]
			all.Go(func() {
				q := queue(fmt.Sprint("q-", i))
				if err := r.Bind(t.Context(), e, q, "kept", "gone"); err != nil {
					t.Error(err)
				}
				if err := r.Unbind(t.Context(), e, q.Queue, "gone"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, key := range []string{"kept", "gone"} {
			bound, err := one.Route(t.Context(), e, key)
			if want := map[string]int{"kept": n, "gone": 0}[key]; err != nil || len(bound) != want {
				t.Errorf("%d queues have %q, want %d (%v)", len(bound), key, want, err)
			}
		}
	})
}

// TestBoundWhileOthersPublish: whoever publishes after Bind returned reaches the queue, however
// many publish before, and share their reads.
func TestBoundWhileOthersPublish(t *testing.T) {
	one, other, _ := newRoutes(t)
	e := endpoint(adapters.Fanout, "e")
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for ctx.Err() == nil {
				if _, err := one.Route(ctx, e, ""); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 200 {
		name := fmt.Sprint("q-", i)
		must(t, other.Bind(ctx, e, queue(name)))
		wantRoute(t, one, e, "", name)
		must(t, other.Unbind(ctx, e, name))
		wantRoute(t, one, e, "")
	}
	cancel()
	busy.Wait()
}

// TestReadsAreShared: one read serves all who waited when it began, and none who came later.
func TestReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, records := newRoutes(t)
		e := endpoint(adapters.Fanout, "e")
		must(t, r.Declare(t.Context(), e))
		records.loads = 0
		records.onLoad = func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		start := time.Now()
		var all sync.WaitGroup
		for i := range 10 { // the first begins a read, and the others wait for the next
			all.Go(func() {
				if _, err := r.Route(t.Context(), e, ""); err != nil {
					t.Error(err)
				}
				want := 2 * time.Second
				if i == 0 {
					want = time.Second
				}
				if took := time.Since(start); took != want {
					t.Errorf("publish %d waited for %v, want %v", i, took, want)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if records.loads != 2 {
			t.Errorf("%d reads, want 2", records.loads)
		}
	})
}

// TestReadsEnd: a publish that gives up leaves the others theirs, and the last one ends the read.
func TestReadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, records := newRoutes(t)
		e := endpoint(adapters.Fanout, "e")
		must(t, r.Declare(t.Context(), e))
		var begun, ended atomic.Int64
		records.onLoad = func(ctx context.Context) error {
			begun.Add(1)
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				ended.Add(1)
				return ctx.Err()
			}
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // the second waits for the next read
			go func() {
				if _, err := r.Route(short, e, ""); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("gave up with %v", err)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		if b, e := begun.Load(), ended.Load(); b == 0 || b != e { // the second may have begun
			t.Errorf("%d reads began, and %d ended", b, e)
		}
		if _, err := r.Route(t.Context(), e, ""); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

func TestRoutesFail(t *testing.T) {
	r, _, records := newRoutes(t)
	e, broken := endpoint(adapters.Fanout, "e"), errors.New("broken")
	records.onStore = func() error { return broken }
	if err := r.Bind(t.Context(), e, queue("a")); !errors.Is(err, broken) {
		t.Error(err)
	}
	records.onStore = func() error { return kit.ErrChanged } // forever
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Bind(ctx, e, queue("a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	records.onLoad = func(context.Context) error { return broken }
	if _, err := r.Route(t.Context(), e, ""); !errors.Is(err, broken) {
		t.Error(err)
	}
}
