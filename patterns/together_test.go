package patterns_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Where what subscriptions and publishes can do meets.

func TestItemsOfSeveralTypes(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(newEvents[any]()))
	items := []patterns.Item[any]{{Value: placed{Dish: "pho"}}, {Value: cancelled{}, Options: []patterns.PublishOption{patterns.MessageID("b")}}}
	must(t, q.SendItems(bounded(t), items))
	for _, want := range []any{placed{Dish: "pho"}, cancelled{}} {
		m, err := q.Get(bounded(t))
		must(t, err)
		if m.Value != want {
			t.Errorf("got %#v, want %#v", m.Value, want)
		}
		must(t, m.Ack(bounded(t)))
	}
	wantErr(t, "an item of another type", q.SendItems(bounded(t), append(items, patterns.Item[any]{Value: 1})), adapters.ErrInvalid)

	var store typedStore
	must(t, q.SendItems(patterns.StoreIn(bounded(t), &store), items))
	if len(store.calls) != 1 || !slices.Equal(store.calls[0], []string{"order.placed", "order.cancelled"}) {
		t.Errorf("stored %q", store.calls)
	}
	if n := depth(t, bus, "q"); n != 0 {
		t.Errorf("%d messages went to the broker", n)
	}
}

// TestOrderOfSeveralTypes: the key is that of the value, upgraded, and what is unknown is handled
// by who is there for it.
func TestOrderOfSeveralTypes(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		events := newEvents[any](patterns.Upgrade("v1", upgradePlaced))
		q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(events))
		raw := patterns.NewWorkQueue[placedV1](bus, "q")
		must(t, raw.Send(t.Context(), placedV1{Meal: "pho"}, patterns.Type("v1")))
		must(t, q.Send(t.Context(), placed{Dish: "pho"}))
		must(t, raw.Send(t.Context(), placedV1{}, patterns.Type("order.lost")))
		must(t, q.Send(t.Context(), placed{Dish: "ramen"}))
		got := newJournal[string]()
		_, err := q.Work(t.Context(), func(_ context.Context, v any) error {
			got.add("begin " + v.(placed).Dish)
			time.Sleep(time.Second)
			got.add("end " + v.(placed).Dish)
			return nil
		}, patterns.OrderBy(func(v any) string { return v.(placed).Dish }), patterns.Workers(1), patterns.OnUnknownType(func(_ context.Context, d patterns.Delivery) error {
			got.add("unknown " + d.Type)
			return nil
		}))
		must(t, err)
		time.Sleep(time.Minute)
		all := got.snapshot()
		slices.Sort(all)
		if want := []string{"begin pho", "begin pho", "begin ramen", "end pho", "end pho", "end ramen", "unknown order.lost"}; !slices.Equal(all, want) {
			t.Errorf("got %q, want %q", all, want)
		}
	})
}

// TestPauseInOrder: a subscription with OrderBy keeps what it holds, and its order.
func TestPauseInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		var want []int
		for i := range 40 {
			want = append(want, i)
		}
		must(t, q.SendBatch(t.Context(), want))
		got := newJournal[int]()
		sub, err := q.Work(t.Context(), func(_ context.Context, v int) error {
			time.Sleep(time.Second)
			got.add(v)
			return nil
		}, patterns.OrderBy(func(int) string { return "" }), patterns.Workers(4))
		must(t, err)
		time.Sleep(10*time.Second + time.Millisecond)
		must(t, sub.Pause(t.Context()))
		paused := got.snapshot()
		time.Sleep(time.Hour)
		if now := got.snapshot(); len(now) != len(paused) {
			t.Errorf("%d messages were handled during a pause", len(now)-len(paused))
		}
		must(t, sub.SetWorkers(2))
		sub.Resume()
		time.Sleep(time.Hour)
		if now := got.snapshot(); !slices.Equal(now, want) {
			t.Errorf("handled %v", now)
		}
	})
}

func TestPauseBatches(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		sub, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(4), patterns.Workers(2))
		must(t, err)
		synctest.Wait()
		must(t, sub.Pause(t.Context()))
		must(t, q.SendBatch(t.Context(), []int{1, 2, 3, 4, 5, 6}))
		time.Sleep(time.Hour)
		if n := depth(t, bus, "q"); n != 6 {
			t.Errorf("%d messages wait during a pause, want all 6", n)
		}
		wantErr(t, "SetWorkers", sub.SetWorkers(3), adapters.ErrInvalid)
		if h := bus.Health().Subscriptions[0]; h.State != patterns.StatePaused || h.Workers != 2 {
			t.Errorf("health: %+v", h)
		}
		sub.Resume()
		time.Sleep(time.Second)
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages wait after a pause", n)
		}
		_, err = q.WorkBatch(t.Context(), got.handle, patterns.OrderBy(func(int) string { return "" }))
		wantErr(t, "OrderBy of batches", err, adapters.ErrInvalid)
	})
}

// TestBatchOfSeveralTypes: what is unknown is in no batch.
func TestBatchOfSeveralTypes(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(newEvents[any]()))
		must(t, q.SendBatch(t.Context(), []any{placed{Dish: "pho"}, cancelled{Why: "late"}}))
		must(t, patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1, patterns.Type("order.lost")))
		var batch []any
		var unknown string
		_, err := q.WorkBatch(t.Context(), func(_ context.Context, all []any) error {
			batch = append(batch, all...)
			return nil
		}, patterns.OnUnknownType(func(_ context.Context, d patterns.Delivery) error {
			unknown = d.Type
			return nil
		}))
		must(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := fmt.Sprint(batch, unknown); got != "[{pho } {late}]order.lost" {
			t.Error(got)
		}
	})
}
