package middleware_test

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// What is made for single messages does its work in batches, too.
func TestMiddlewareInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect())
		defer bus.Close(t.Context())
		q := patterns.NewWorkQueue[int](bus, "q")
		for range 2 {
			for id := range 20 {
				if err := q.Send(t.Context(), id, patterns.MessageID(string(rune('a'+id)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		begun := time.Now()
		handled, last := map[int]int{}, time.Time{}
		_, err := q.WorkBatch(t.Context(), func(_ context.Context, batch []int) error {
			for _, v := range batch {
				handled[v]++
			}
			last = time.Now()
			return nil
		}, patterns.BatchSize(8), patterns.BatchWait(time.Second),
			middleware.RateLimit(10, time.Second, 1), middleware.Once(middleware.NewMemoryStore(100)))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for v := range 20 {
			if handled[v] != 1 {
				t.Errorf("%d was handled %d times", v, handled[v])
			}
		}
		if took := last.Sub(begun); took < 2*time.Second || took > 10*time.Second {
			t.Errorf("40 messages at 10 a second took %v", took)
		}
	})
}

// In a batch nobody could write in the transactions of an SQLStore.
func TestSQLStoreIsNotForBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect())
		defer bus.Close(t.Context())
		_, db := newFakeDB()
		defer db.Close()
		store, err := middleware.NewSQLStore(db, middleware.SQLConfig{Table: "handled"})
		if err != nil {
			t.Fatal(err)
		}
		q := patterns.NewWorkQueue[int](bus, "q")
		var mu sync.Mutex
		var first error
		sub, err := q.WorkBatch(t.Context(), func(context.Context, []int) error {
			t.Error("it was handled")
			return nil
		}, middleware.Once(store), patterns.OnSettle(func(_ context.Context, s patterns.Settlement) {
			mu.Lock()
			defer mu.Unlock()
			first = cmp.Or(first, s.Err)
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Send(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := sub.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !errors.Is(first, patterns.ErrRequeued) {
			t.Errorf("it was settled for %v", first)
		}
		if m, err := q.TryGet(t.Context()); err != nil || m.Attempt != 1 {
			t.Errorf("it is not in its place: %v", err)
		}
	})
}
