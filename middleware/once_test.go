package middleware_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// stores has each kind of store, made within a bubble.
var stores = map[string]func(t *testing.T) (middleware.Store, func()){
	"memory": func(*testing.T) (middleware.Store, func()) { return middleware.NewMemoryStore(100), func() {} },
	"SQL": func(t *testing.T) (middleware.Store, func()) {
		_, db := newFakeDB()
		store, err := middleware.NewSQLStore(db, middleware.SQLConfig{Placeholder: middleware.Dollar})
		must(t, err)
		return store, func() { must(t, db.Close()) }
	},
}

func TestOnce(t *testing.T) {
	type handler = func(ctx context.Context, call int) error
	twice := patterns.Retry(patterns.RetryPolicy{Attempts: 2})
	for name, c := range map[string]struct {
		handler handler
		ids     []string
		calls   int
		skipped uint64
		workers int
	}{
		"others":          {handler: func(context.Context, int) error { return nil }, ids: []string{"a", "b"}, calls: 2},
		"after success":   {handler: func(context.Context, int) error { return nil }, ids: []string{"a", "a"}, calls: 1, skipped: 1},
		"after failure":   {handler: func(_ context.Context, call int) error { return []error{errDown, nil, nil}[call-1] }, ids: []string{"a"}, calls: 2},
		"after panic":     {handler: func(_ context.Context, call int) error { panicFirst(call); return nil }, ids: []string{"a"}, calls: 2},
		"after Goexit":    {handler: func(_ context.Context, call int) error { exitFirst(call); return nil }, ids: []string{"a"}, calls: 2},
		"after Skip":      {handler: func(context.Context, int) error { return patterns.Skip(errDown) }, ids: []string{"a", "a"}, calls: 1, skipped: 2},
		"at a time":       {handler: slowly(nil), ids: []string{"a", "a", "a"}, calls: 1, skipped: 2, workers: 3},
		"at a time, fail": {handler: slowly(errDown), ids: []string{"a", "a"}, calls: 2, skipped: 1, workers: 2},
	} {
		for kind, open := range stores {
			t.Run(name+", "+kind, func(t *testing.T) {
				bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
					store, done := open(t)
					defer done()
					q := patterns.NewWorkQueue[int](bus, "q")
					calls := make(chan int, 100)
					sub, err := q.Work(t.Context(), func(ctx context.Context, _ int) error {
						calls <- 1
						return c.handler(ctx, len(calls))
					}, twice, patterns.Workers(max(c.workers, 1)), middleware.Once(store))
					must(t, err)
					for _, id := range c.ids {
						must(t, q.Send(t.Context(), 1, patterns.MessageID(id)))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					if s := bus.Stats(); len(calls) != c.calls || s.Skipped != c.skipped || s.DeadLettered != 0 {
						t.Errorf("%d calls, %+v; want %d calls, %d skipped", len(calls), s, c.calls, c.skipped)
					}
					must(t, sub.Stop(t.Context()))
				})
			})
		}
	}
}

func panicFirst(call int) {
	if call == 1 {
		panic("oven")
	}
}

func exitFirst(call int) {
	if call == 1 {
		runtime.Goexit()
	}
}

// slowly returns a handler that takes a minute, and whose first call returns err.
func slowly(err error) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		time.Sleep(time.Minute)
		if call == 1 {
			return err
		}
		return nil
	}
}

// Two groups handle the same message, each once; a message without an id is handled each time.
func TestOnceIsForEachQueue(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		once := middleware.Once(middleware.NewMemoryStore(1))
		var calls atomic.Int32 // of two subscriptions
		p := patterns.NewPubSub[int](bus, "p")
		for _, group := range []string{"a", "b"} {
			_, err := p.Subscribe(t.Context(), func(context.Context, int) error { calls.Add(1); return nil }, patterns.Group(group), once)
			must(t, err)
			synctest.Wait()
		}
		must(t, p.Publish(t.Context(), 1, patterns.MessageID("m")))
		synctest.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

// Each private subscription has a copy of its own, which no other handles for it.
func TestOnceOfPrivateSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		once := middleware.Once(middleware.NewMemoryStore(10))
		var calls [2]int
		p := patterns.NewPubSub[int](bus, "p")
		for i := range calls {
			_, err := p.Subscribe(t.Context(), func(context.Context, int) error { calls[i]++; return nil }, once)
			must(t, err)
		}
		for range 2 {
			must(t, p.Publish(t.Context(), 1, patterns.MessageID("m")))
			synctest.Wait()
		}
		if calls != [2]int{1, 1} {
			t.Errorf("calls: %v", calls)
		}
	})
}

// Messages without an id are each of their own.
func TestOnceWithoutID(t *testing.T) {
	for kind, open := range stores {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				store, done := open(t)
				defer done()
				calls := 0
				sub, err := patterns.NewWorkQueue[int](bus, "q").Work(t.Context(), func(ctx context.Context, _ int) error {
					if _, ok := middleware.TxFrom(ctx); ok != (kind == "SQL") {
						t.Error("a transaction:", ok)
					}
					calls++
					return nil
				}, middleware.Once(store))
				must(t, err)
				p := adapters.Publication{To: adapters.Endpoint{Name: "q"}}
				must(t, broker.Connect().Publish(t.Context(), p, message.NewMessage("", []byte("1")), message.NewMessage("", []byte("1"))))
				synctest.Wait()
				if calls != 2 {
					t.Errorf("%d calls", calls)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// A worker that waits for another's message waits no longer than its ctx lets it.
func TestOnceWaitsForItsContext(t *testing.T) {
	for kind, open := range stores {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				store, done := open(t)
				defer done()
				release := make(chan struct{})
				q := patterns.NewWorkQueue[int](bus, "q")
				sub, err := q.Work(t.Context(), func(context.Context, int) error { <-release; return nil },
					middleware.Once(store), patterns.Workers(2), patterns.DrainTimeout(time.Second))
				must(t, err)
				for range 2 {
					must(t, q.Send(t.Context(), 1, patterns.MessageID("m")))
				}
				synctest.Wait()
				start := time.Now()
				wantErr(t, "stopping", sub.Stop(t.Context()), patterns.ErrAbandoned)
				if d, n := time.Since(start), bus.Stats().Requeued; d > 3*time.Second || n != 2 {
					t.Errorf("stopping took %v, %d went back", d, n)
				}
				close(release)
				synctest.Wait()
			})
		})
	}
}

func TestMemoryStoreForgets(t *testing.T) {
	store := middleware.NewMemoryStore(2)
	calls := 0
	do := func(id string) error {
		return store.Do(t.Context(), middleware.Key{Queue: "q", ID: id}, func(context.Context) error { calls++; return nil })
	}
	for _, id := range []string{"a", "b", "a", "b", "c", "b", "a", "", ""} { // c makes it forget a
		_ = do(id)
	}
	if calls != 6 {
		t.Errorf("%d calls", calls)
	}
}

// What a handler writes is committed with the note that it did, whatever happens in between.
func TestSQLStoreCommitsWithTheHandler(t *testing.T) {
	for name, c := range map[string]struct {
		first func(fake *fakeDB, broker *memory.Broker, session context.Context) error // of what goes wrong in the first call
		calls int

		// database/sql rolls back when the ctx ends, unless the commit is sooner: then it is done.
		orOnce bool
	}{
		"nothing":                          {first: func(*fakeDB, *memory.Broker, context.Context) error { return nil }, calls: 1},
		"an error":                         {first: func(*fakeDB, *memory.Broker, context.Context) error { return errDown }, calls: 2},
		"a panic":                          {first: func(*fakeDB, *memory.Broker, context.Context) error { panic("oven") }, calls: 2},
		"a commit that fails":              {first: func(f *fakeDB, _ *memory.Broker, _ context.Context) error { f.refuseCommits = 1; return nil }, calls: 2},
		"a commit that has no answer":      {first: func(f *fakeDB, _ *memory.Broker, _ context.Context) error { f.failCommits = 1; return nil }, calls: 1},
		"a session that is lost before it": {first: func(_ *fakeDB, b *memory.Broker, ctx context.Context) error { b.Cut(); <-ctx.Done(); return nil }, calls: 2, orOnce: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				fake, db := newFakeDB()
				defer db.Close()
				store, err := middleware.NewSQLStore(db, middleware.SQLConfig{})
				must(t, err)
				q := patterns.NewWorkQueue[string](bus, "q")
				calls := 0
				sub, err := q.Work(t.Context(), func(ctx context.Context, dish string) error {
					tx, ok := middleware.TxFrom(ctx)
					if !ok {
						t.Error("no transaction")
					}
					if _, err := tx.ExecContext(ctx, "INSERT INTO effects (dish) VALUES (?)", dish); err != nil {
						return err
					}
					if calls++; calls == 1 {
						return c.first(fake, broker, ctx)
					}
					return nil
				}, middleware.Once(store))
				must(t, err)
				for range 2 {
					must(t, q.Send(t.Context(), "ramen", patterns.MessageID("m")))
					time.Sleep(time.Hour)
				}
				synctest.Wait()
				asExpected := calls == c.calls || c.orOnce && calls == 1
				if got := fmt.Sprint(fake.committed()); got != "[ramen]" || !asExpected || bus.Stats().DeadLettered != 0 {
					t.Errorf("committed %s in %d calls, %+v", got, calls, bus.Stats())
				}
				if n, err := store.Forget(t.Context(), time.Now().Add(-3*time.Hour)); n != 0 || err != nil {
					t.Errorf("forgot %d too early, %v", n, err)
				}
				if n, err := store.Forget(t.Context(), time.Now()); n != 1 || err != nil {
					t.Errorf("forgot %d, %v", n, err)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

func TestSQLStoreRefusesTables(t *testing.T) {
	_, db := newFakeDB()
	defer db.Close()
	for _, table := range []string{"a b", "a;b", "a.b.c", "1"} {
		if _, err := middleware.NewSQLStore(db, middleware.SQLConfig{Table: table}); err == nil {
			t.Errorf("table %q is taken", table)
		}
	}
}

// What a handler did that failed is rolled back at once, and not when its ctx ends.
func TestSQLStoreRollsBackAtOnce(t *testing.T) {
	_, db := newFakeDB()
	defer db.Close()
	store, err := middleware.NewSQLStore(db, middleware.SQLConfig{})
	must(t, err)
	key := middleware.Key{Queue: "q", ID: "m"}
	wantErr(t, "failing", store.Do(t.Context(), key, func(context.Context) error { return errDown }), errDown)
	if n := db.Stats().InUse; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
}
