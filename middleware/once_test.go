package middleware_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		fake, db := newFakeDB()
		defer db.Close()
		fake.failCommits = 1
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
			if calls++; calls == 2 {
				return errDown
			}
			return nil
		}, middleware.Once(store))
		must(t, err)
		for _, dish := range []string{"ramen", "pho", "ramen"} { // the commit of the first has no answer
			must(t, q.Send(t.Context(), dish, patterns.MessageID(dish)))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(fake.committed()); got != "[ramen pho]" || calls != 3 {
			t.Errorf("committed %s in %d calls", got, calls)
		}
		n, err := store.Forget(t.Context(), time.Now().Add(-30*time.Minute))
		if n != 2 || err != nil {
			t.Errorf("forgot %d, %v", n, err)
		}
		must(t, sub.Stop(t.Context()))
	})
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
