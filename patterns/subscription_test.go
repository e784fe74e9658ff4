package patterns_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestEndOfCtxDrains(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.SendBatch(t.Context(), []order{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}))
		ctx, cancel := context.WithCancel(t.Context())
		var finished atomic.Int64
		sub, err := q.Work(ctx, func(ctx context.Context, _ order) error {
			select {
			case <-time.After(10 * time.Second):
				finished.Add(1)
				return nil
			case <-ctx.Done():
				t.Error("the handler's ctx ended with its subscription's, although there was time to finish")
				return ctx.Err()
			}
		}, patterns.Workers(2), patterns.Prefetch(3))
		must(t, err)
		synctest.Wait()
		cancel()
		start := time.Now()
		if err := sub.Wait(); err != nil || time.Since(start) != 10*time.Second || finished.Load() != 2 {
			t.Errorf("drained with %v after %v, %d finished", err, time.Since(start), finished.Load())
		}
		if info, _ := broker.Queue("orders"); info.Ready != 2 || info.Unacked != 0 {
			t.Errorf("what was not begun is not back in the queue: %+v", info)
		}
	})
}

func TestDrainTimeoutGivesBackUncounted(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{ID: 1}))
		ctx, cancel := context.WithCancel(t.Context())
		var cause error
		sub, err := q.Work(ctx, func(ctx context.Context, _ order) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}, patterns.DrainTimeout(5*time.Second))
		must(t, err)
		synctest.Wait()
		cancel()
		start := time.Now()
		must(t, sub.Wait())
		if time.Since(start) != 5*time.Second || !errors.Is(cause, patterns.ErrShutdown) {
			t.Errorf("ended after %v with cause %v", time.Since(start), cause)
		}
		got, err := q.Get(t.Context())
		must(t, err)
		if got.Attempt != 1 || !got.Redelivered {
			t.Errorf("given back as %+v", got.Delivery)
		}
	})
}

func TestHandlerThatIgnoresItsCtxIsAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{ID: 1}))
		release := make(chan struct{})
		sub, err := q.Work(t.Context(), func(context.Context, order) error { <-release; return patterns.Reject(errKitchen) }, patterns.DrainTimeout(time.Second))
		must(t, err)
		synctest.Wait()
		start := time.Now()
		wantErr(t, "Stop", sub.Stop(t.Context()), patterns.ErrAbandoned)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("gave up after %v", d)
		}
		got, err := q.TryGet(t.Context()) // while the handler is still running
		must(t, err)
		must(t, got.Ack(t.Context()))
		close(release)
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = q.Dead().TryGet(t.Context())
		wantErr(t, "what it returned too late", err, adapters.ErrEmpty)
		wantErr(t, "a second copy", second(q.TryGet(t.Context())), adapters.ErrEmpty)
	})
}

func second[T any](_ T, err error) error { return err }

func TestStopCtxCutsTheDrainShort(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{ID: 1}))
		sub, err := q.Work(t.Context(), func(ctx context.Context, _ order) error { <-ctx.Done(); return ctx.Err() })
		must(t, err)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		must(t, sub.Stop(ctx))
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("stopped after %v", d)
		}
		must(t, sub.Stop(ctx)) // twice
		select {
		case <-sub.Done():
		default:
			t.Error("Done is not closed")
		}
	})
}

func TestShutdownDuringInProcessWaitGivesBack(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{ID: 1}))
		sub, err := q.Work(t.Context(), func(context.Context, order) error { return errKitchen },
			patterns.Retry(patterns.RetryPolicy{Min: time.Hour, InProcess: true}))
		must(t, err)
		synctest.Wait()
		start := time.Now()
		must(t, sub.Stop(t.Context()))
		if info, _ := broker.Queue("orders"); info.Ready != 1 || time.Since(start) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), info)
		}
	})
}

func TestLostSessionIsNeitherTryNorDeadLetter(t *testing.T) {
	for _, result := range []error{nil, errKitchen, patterns.Reject(errKitchen)} {
		bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
			q := patterns.NewWorkQueue[order](bus, "orders")
			must(t, q.Send(t.Context(), order{ID: 1}))
			calls := 0
			_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
				calls++
				if calls > 1 {
					if d, _ := patterns.DeliveryFrom(ctx); d.Attempt != 1 || !d.Redelivered || ctx.Err() != nil {
						t.Errorf("delivered again as %+v", d)
					}
					return nil
				}
				<-ctx.Done()
				wantErr(t, "the cause of the handler's end", context.Cause(ctx), adapters.ErrSessionLost)
				return result
			}, patterns.NoRetry())
			must(t, err)
			synctest.Wait()
			broker.Cut()
			time.Sleep(time.Minute)
			synctest.Wait()
			if calls != 2 || bus.Stats().Stale != 1 {
				t.Errorf("with result %v: handled %d times, %d stale", result, calls, bus.Stats().Stale)
			}
			wantErr(t, "dead letters", second(q.Dead().TryGet(t.Context())), adapters.ErrEmpty)
		})
	}
}

func TestWorkersBoundConcurrency(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.SendBatch(t.Context(), make([]order, 100)))
		var now, most, total atomic.Int64
		_, err := q.Work(t.Context(), func(context.Context, order) error {
			most.Store(max(most.Load(), now.Add(1)))
			if info, _ := broker.Queue("orders"); info.Unacked > 8 {
				t.Errorf("%d in hand", info.Unacked)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			total.Add(1)
			return nil
		}, patterns.Workers(8))
		must(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		if most.Load() != 8 || total.Load() != 100 {
			t.Errorf("at most %d at a time, %d in total", most.Load(), total.Load())
		}
	})
}

func TestQueueDeletedUnderItsWorkersIsHealed(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		got := newJournal[order]()
		_, err := q.Work(t.Context(), func(_ context.Context, o order) error { got.add(o); return nil })
		must(t, err)
		must(t, broker.DeleteQueue("orders"))
		must(t, broker.DeleteQueue("orders.dead"))
		synctest.Wait()
		must(t, q.Send(t.Context(), order{ID: 1}))
		synctest.Wait()
		if all := got.snapshot(); len(all) != 1 || all[0].ID != 1 {
			t.Errorf("handled %v", all)
		}
	})
}

func TestSubscriptionThatCannotBeHealedSaysWhy(t *testing.T) {
	bus, broker := newBus(t)
	must(t, patterns.NewWorkQueue[order](bus, "theirs").Declare(bounded(t)))
	q := patterns.NewWorkQueue[order](bus, "theirs", patterns.Passive())
	sub, err := q.Work(bounded(t), func(context.Context, order) error { return nil })
	must(t, err)
	must(t, broker.DeleteQueue("theirs"))
	select {
	case <-sub.Done():
		wantErr(t, "Wait", sub.Wait(), adapters.ErrNotFound)
	case <-time.After(within):
		t.Error("the subscription goes on without its queue")
	}
}

func TestCloseWhileEverythingRuns(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(broker.Connect())
	q := patterns.NewWorkQueue[order](bus, "orders")
	rpc := patterns.NewRPC[int, int](bus, "double")
	var handled atomic.Int64
	for range 4 {
		_, err := q.Work(bounded(t), func(context.Context, order) error { handled.Add(1); return nil }, patterns.Workers(4))
		must(t, err)
	}
	_, err := rpc.Serve(bounded(t), func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	must(t, err)

	var sent atomic.Int64
	busy := make(chan struct{})
	var publishers sync.WaitGroup
	for range 16 {
		publishers.Go(func() {
			for {
				if err := q.Send(bounded(t), order{}); err != nil {
					wantErr(t, "Send on a closed bus", err, adapters.ErrClosed)
					return
				}
				if sent.Add(1) == 1000 {
					close(busy)
				}
				if n, err := rpc.Call(bounded(t), 3); err == nil && n != 6 {
					t.Errorf("double(3) = %d", n)
				}
			}
		})
	}
	<-busy
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := bus.Close(bounded(t)); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	closers.Wait()
	publishers.Wait()
	info, _ := broker.Queue("orders")
	if got := handled.Load() + int64(info.Ready); got != sent.Load() || info.Unacked != 0 {
		t.Errorf("%d sent, %d handled, left %+v", sent.Load(), handled.Load(), info)
	}
	must(t, bus.Close(bounded(t))) // once more
	wantErr(t, "Work on a closed bus", second(q.Work(bounded(t), func(context.Context, order) error { return nil })), adapters.ErrClosed)
	wantErr(t, "Call on a closed bus", second(rpc.Call(bounded(t), 1)), adapters.ErrClosed)
	wantErr(t, "Get on a closed bus", second(q.Get(bounded(t))), adapters.ErrClosed)
}

func TestNothingIsFetchedOnceCtxHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.SendBatch(t.Context(), make([]order, 100)))
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := q.Work(ctx, func(context.Context, order) error { cancel(); return nil })
		must(t, err)
		must(t, sub.Wait())
		if info, _ := broker.Queue("orders"); info.Ready != 99 {
			t.Errorf("%d left of 99", info.Ready)
		}
	})
}
