package patterns_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestWorkersBetween: there are more workers within a second while messages wait, fewer once they
// are not needed, and never more than the most or fewer than the least.
func TestWorkersBetween(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{
		"plain":  nil,
		"by key": {patterns.OrderBy(func(o order) string { return string(rune(o.ID)) })},
		"gated":  {patterns.WithGate(newOpenLatch(true))},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				orders := patterns.NewWorkQueue[order](bus, "orders")
				k := &kitchen{}
				sub, err := orders.Work(t.Context(), k.cook, append(opts, patterns.WorkersBetween(2, 40))...)
				must(t, err)
				workers := func(when string, least, most int) {
					t.Helper()
					synctest.Wait()
					if n := only(t, bus).Workers; n < least || n > most {
						t.Errorf("%s there are %d workers, want %d to %d", when, n, least, most)
					}
				}
				time.Sleep(time.Hour)
				workers("with nothing to do", 2, 2)
				sendOrders(t, orders, 120)
				workers("at first", 2, 2)
				time.Sleep(time.Second)
				workers("while messages wait", 40, 40)
				if now := k.now.Load(); now != 40 {
					t.Errorf("%d orders are cooked at a time", now)
				}
				time.Sleep(5 * time.Minute)
				workers("in the end", 2, 2)
				if n := len(k.done()); n != 120 {
					t.Errorf("%d were cooked", n)
				}
				for i := range 10 { // one every 20 s, each takes a minute: three at a time
					must(t, orders.Send(t.Context(), order{ID: i}))
					time.Sleep(20 * time.Second)
				}
				workers("for three at a time", 3, 5)
				for i := range 5 * 60 * 20 { // no more than needed end
					if i%400 == 0 {
						must(t, orders.Send(t.Context(), order{ID: i}))
					}
					time.Sleep(50 * time.Millisecond)
					workers("for three at a time, later", 3, 5)
				}
				sendOrders(t, orders, 100)
				time.Sleep(time.Second)
				must(t, sub.Stop(t.Context()))
				if top := k.top.Load(); top != 40 {
					t.Errorf("%d at most", top)
				}
			})
		})
	}
}

// TestWorkersBetweenStays: messages that come one at a time, though without end, need few workers.
func TestWorkersBetweenStays(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := orders.Work(t.Context(), func(context.Context, order) error {
			time.Sleep(time.Millisecond)
			return nil
		}, patterns.WorkersBetween(1, 64))
		must(t, err)
		for range 5000 {
			sendOrders(t, orders, 1)
			time.Sleep(2 * time.Millisecond)
			if n := only(t, bus).Workers; n != 1 {
				t.Fatalf("%d workers, who are busy half of the time", n)
			}
		}
		must(t, sub.Pause(t.Context()))
		sendOrders(t, orders, 1000)
		time.Sleep(time.Hour)
		if n := only(t, bus).Workers; n != 1 {
			t.Errorf("%d workers while paused", n)
		}
		sub.Resume()
		time.Sleep(200 * time.Millisecond)
		if n := only(t, bus).Workers; n < 2 {
			t.Errorf("%d workers for a backlog", n)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestWorkersBetweenLooksAgain: what comes right after an idle time gets more workers, too, though
// no worker takes another message.
func TestWorkersBetweenLooksAgain(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := orders.Work(t.Context(), func(_ context.Context, o order) error {
			time.Sleep(time.Duration(o.ID) * time.Minute)
			return nil
		}, patterns.WorkersBetween(1, 64))
		must(t, err)
		must(t, orders.Send(t.Context(), order{ID: 0}))
		time.Sleep(50 * time.Millisecond)
		for range 3 {
			must(t, orders.Send(t.Context(), order{ID: 1}))
		}
		time.Sleep(time.Second)
		if h := only(t, bus); h.InHand != 3 {
			t.Errorf("%d in hand, of %d workers", h.InHand, h.Workers)
		}
		time.Sleep(5 * time.Minute) // the handlers return
		must(t, sub.Stop(t.Context()))
	})
}

// TestWorkersBetweenServes: a server of calls has more workers, too.
func TestWorkersBetweenServes(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		double := patterns.NewRPC[int, int](bus, "double")
		sub, err := double.Serve(t.Context(), func(_ context.Context, n int) (int, error) {
			time.Sleep(time.Second)
			return 2 * n, nil
		}, patterns.WorkersBetween(1, 8))
		must(t, err)
		replies := newJournal[int]()
		for n := range 8 {
			go func() {
				reply, err := double.Call(t.Context(), n)
				if err != nil {
					t.Error(err)
				}
				replies.add(reply)
			}()
		}
		time.Sleep(1500 * time.Millisecond)
		if n := only(t, bus).Workers; n != 8 {
			t.Errorf("%d workers", n)
		}
		time.Sleep(time.Second)
		if n := len(replies.snapshot()); n != 8 {
			t.Errorf("%d replies", n)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestWorkersBetweenRefused: what does not go with it is refused by name.
func TestWorkersBetweenRefused(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	nothing := func(context.Context, order) error { return nil }
	for name, opts := range map[string][]patterns.WorkOption{
		"none":         {patterns.WorkersBetween(0, 3)},
		"upside down":  {patterns.WorkersBetween(3, 2)},
		"twice":        {patterns.WorkersBetween(2, 3), patterns.WorkersBetween(2, 3)},
		"with Workers": {patterns.WorkersBetween(2, 3), patterns.Workers(2)},
		"prefetch":     {patterns.WorkersBetween(2, 4), patterns.Prefetch(3)},
	} {
		_, err := q.Work(bounded(t), nothing, opts...)
		wantErr(t, name, err, adapters.ErrInvalid)
	}
	_, err := q.WorkBatch(bounded(t), func(context.Context, []order) error { return nil }, patterns.WorkersBetween(1, 2))
	wantErr(t, "batches", err, adapters.ErrInvalid)
	sub, err := q.Work(bounded(t), nothing, patterns.WorkersBetween(1, 2))
	must(t, err)
	wantErr(t, "SetWorkers", sub.SetWorkers(2), adapters.ErrInvalid)
	must(t, sub.Stop(bounded(t)))
}
