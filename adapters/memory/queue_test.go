package memory

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

func TestOrderIsKept(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	ids := numbered(1000)
	publish(t, c, toQueue("q"), ids...)
	receiveAll(t, sub, ids...)
}

func TestWaitingMessagesAreDeliveredToTheFirstConsumer(t *testing.T) {
	b, c := connect(t)
	declare(t, c, fromQueue("q", 0))
	publish(t, c, toQueue("q"), "a", "b")
	wantQueue(t, b, "q", 2, 0, 0)
	receiveAll(t, subscribe(t, c, fromQueue("q", 1)), "a", "b")
	wantQueue(t, b, "q", 0, 0, 1)
}

func TestRequeueGoesToTheOriginalPlace(t *testing.T) {
	_, c := imitating(t, "")
	sub := subscribe(t, c, fromQueue("q", 3))
	publish(t, c, toQueue("q"), "a", "b", "c", "d")
	a, b, cc := receive(t, sub, "a"), receive(t, sub, "b"), receive(t, sub, "c")
	settle(t, cc, adapters.Requeue) // delivered again at once, before d
	again := receive(t, sub, "c")
	if a.Redelivered || !again.Redelivered {
		t.Errorf("redelivered: first %v, again %v", a.Redelivered, again.Redelivered)
	}
	if again.Attempt != 1 {
		t.Errorf("attempt %d after a requeue, want 1: only publishers count", again.Attempt)
	}
	// With nobody to deliver to, all three go back before d, whatever the order.
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	settle(t, b, adapters.Requeue)
	settle(t, again, adapters.Requeue)
	settle(t, a, adapters.Requeue)
	receiveAll(t, subscribe(t, c, fromQueue("q", 1)), "a", "b", "c", "d")
}

func TestRequeueKeepsItsPlaceAmongPriorities(t *testing.T) {
	_, c := imitating(t, "")
	s := fromQueue("q", 3)
	s.Queue.MaxPriority = 5
	sub := subscribe(t, c, s)
	p := toQueue("q")
	publish(t, c, p, "low1", "low2")
	p.Priority = 5
	publish(t, c, p, "high")
	low1, low2, high := receive(t, sub, "low1"), receive(t, sub, "low2"), receive(t, sub, "high")
	_ = sub.Stop()
	for _, d := range []adapters.Delivery{low2, low1, high} {
		settle(t, d, adapters.Requeue)
	}
	receiveAll(t, subscribe(t, c, s), "high", "low1", "low2")
}

func TestPrefetchCountsWhatIsBufferedAndInHand(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 3))
	publish(t, c, toQueue("q"), numbered(5)...)
	wantQueue(t, b, "q", 2, 3, 1)
	first := receive(t, sub, "0")
	receive(t, sub, "1")
	receive(t, sub, "2")
	nothing(t, sub)
	settle(t, first, adapters.Ack)
	receive(t, sub, "3")
	nothing(t, sub)
	wantQueue(t, b, "q", 1, 3, 1)
}

func TestSettleInAnyOrderAndTwice(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 3))
	publish(t, c, toQueue("q"), "a", "b", "c")
	first, second, third := receive(t, sub, "a"), receive(t, sub, "b"), receive(t, sub, "c")
	settle(t, third, adapters.Ack)
	settle(t, first, adapters.Ack)
	settle(t, second, adapters.Ack)
	for _, o := range []adapters.Outcome{adapters.Ack, adapters.Requeue, adapters.Reject} {
		settle(t, second, o)
	}
	wantQueue(t, b, "q", 0, 0, 1)
	nothing(t, sub)
	wantErr(t, "unknown outcome", first.Settle(ctx, adapters.Reject+1), adapters.ErrInvalid)
}

func TestASettleOfAnEarlierDeliveryDoesNotTouchALaterOne(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a")
	first := receive(t, sub, "a")
	settle(t, first, adapters.Requeue)
	second := receive(t, sub, "a")
	settle(t, first, adapters.Ack)
	wantQueue(t, b, "q", 0, 1, 1)
	settle(t, second, adapters.Ack)
	wantQueue(t, b, "q", 0, 0, 1)
}

func TestRoundRobinAmongConsumersWithRoom(t *testing.T) {
	_, c := connect(t)
	var subs []adapters.Subscription
	for range 3 {
		subs = append(subs, subscribe(t, c, fromQueue("q", 2)))
	}
	publish(t, c, toQueue("q"), numbered(7)...)
	receive(t, subs[0], "0")
	receive(t, subs[1], "1")
	receive(t, subs[2], "2")
	receive(t, subs[0], "3")
	four := receive(t, subs[1], "4")
	receive(t, subs[2], "5")
	for _, sub := range subs {
		nothing(t, sub) // all are full
	}
	settle(t, four, adapters.Ack)
	receive(t, subs[1], "6") // the only one with room
}

func TestPrefetchOneIsFairAndALargerOneHoards(t *testing.T) {
	for _, test := range []struct{ prefetch, busyGets int }{{1, 1}, {10, 10}} {
		t.Run(fmt.Sprint(test.prefetch), func(t *testing.T) {
			_, c := connect(t)
			busy := subscribe(t, c, fromQueue("q", test.prefetch)) // never settles
			idle := subscribe(t, c, fromQueue("q", test.prefetch))
			const n = 100
			got := 0
			for i := range n {
				publish(t, c, toQueue("q"), fmt.Sprint(i))
				for {
					taken, w := idle.(*subscription).current.Load().take()
					if w != nil {
						idle.(*subscription).current.Load().cancelWait(w)
						break
					}
					settle(t, idle.(*subscription).current.Load().receive(taken), adapters.Ack)
					got++
				}
			}
			if hoarded := busy.(*subscription).current.Load().unackedCount; hoarded != test.busyGets || got != n-hoarded {
				t.Errorf("busy consumer holds %d, idle one got %d of %d; want %d and the rest", hoarded, got, n, test.busyGets)
			}
		})
	}
}

func TestLateJoinerGetsItsShare(t *testing.T) {
	b, c := connect(t)
	first := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), numbered(10)...)
	second := subscribe(t, c, fromQueue("q", 3))
	receiveAllOf := func(sub adapters.Subscription, ids ...string) {
		for _, id := range ids {
			receive(t, sub, id)
		}
		nothing(t, sub)
	}
	receiveAllOf(first, "0", "1")
	receiveAllOf(second, "2", "3", "4")
	wantQueue(t, b, "q", 5, 5, 2)
}

func TestStopGivesBackWhatWasNotReceived(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 3))
	publish(t, c, toQueue("q"), "a", "b", "c", "d")
	a := receive(t, sub, "a")
	for range 2 {
		if err := sub.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	wantQueue(t, b, "q", 3, 1, 0)
	_, err := sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrStopped)

	next := subscribe(t, c, fromQueue("q", 4))
	for _, want := range []struct {
		id          string
		redelivered bool // it was pushed to the first client
	}{{"b", true}, {"c", true}, {"d", false}} {
		d := receive(t, next, want.id)
		if d.Redelivered != want.redelivered || d.Attempt != 1 {
			t.Errorf("%s: redelivered %v, attempt %d; want %v, 1", want.id, d.Redelivered, d.Attempt, want.redelivered)
		}
	}
	if err := a.Message.Context().Err(); err != nil {
		t.Errorf("what is in hand has context error %v after Stop", err)
	}
	settle(t, a, adapters.Requeue) // still settleable
	receive(t, next, "a")
}

func TestStopWakesReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 3))
		errs := make(chan error)
		for range 5 {
			go func() {
				_, err := sub.Receive(ctx)
				errs <- err
			}()
		}
		synctest.Wait()
		_ = sub.Stop()
		for range 5 {
			wantErr(t, "Receive", <-errs, adapters.ErrStopped)
		}
	})
}

func TestReceiveHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1))
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		d, err := sub.Receive(ctx)
		wantErr(t, "Receive", err, context.DeadlineExceeded)
		if d.Message != nil || d.Settler != nil {
			t.Errorf("a delivery with an error: %+v", d)
		}
		publish(t, c, toQueue("q"), "a")
		_, err = sub.Receive(ctx)
		wantErr(t, "Receive with ended ctx", err, context.DeadlineExceeded)
		wantQueue(t, b, "q", 0, 1, 1)
		receiveAll(t, sub, "a")
	})
}

func TestEachMessageGoesToOneReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 100))
		got := make(chan string)
		for range 10 {
			go func() {
				for {
					d, err := sub.Receive(ctx)
					if err != nil {
						return
					}
					_ = d.Settle(ctx, adapters.Ack)
					got <- d.Message.UUID
				}
			}()
		}
		synctest.Wait()
		seen := make(map[string]bool)
		publish(t, c, toQueue("q"), numbered(100)...)
		for range 100 {
			id := <-got
			if seen[id] {
				t.Errorf("%s came twice", id)
			}
			seen[id] = true
		}
		synctest.Wait()
		_ = sub.Stop()
	})
}

func TestGetTakesTheNextMessage(t *testing.T) {
	b, c := connect(t)
	_, err := c.Get(ctx, fromQueue("q", 0))
	wantErr(t, "Get from an empty queue", err, adapters.ErrEmpty)
	publish(t, c, toQueue("q"), "a", "b") // Get has declared it
	first, err := c.Get(ctx, fromQueue("q", 0))
	if err != nil || first.Message.UUID != "a" || first.Redelivered || first.Attempt != 1 {
		t.Fatalf("Get: %+v, %v", first, err)
	}
	wantQueue(t, b, "q", 1, 1, 0)
	settle(t, first, adapters.Requeue)
	if first, err = c.Get(ctx, fromQueue("q", 0)); err != nil || first.Message.UUID != "a" || !first.Redelivered {
		t.Fatalf("Get after requeue: %+v, %v", first, err)
	}
	c.Cut()
	wantErr(t, "late settle", first.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	wantQueue(t, b, "q", 2, 0, 0)
	first, err = c.Get(ctx, fromQueue("q", 0))
	if err != nil {
		t.Fatal(err)
	}
	settle(t, first, adapters.Ack)
	settle(t, first, adapters.Ack)
	wantQueue(t, b, "q", 1, 0, 0)
	if n := len(c.session.consumers); n != 0 {
		t.Errorf("the session still knows %d consumers", n)
	}
	private := adapters.Source{Endpoint: endpoint(adapters.Fanout)}
	_, err = c.Get(ctx, private)
	wantErr(t, "Get from a private source", err, adapters.ErrInvalid)
}

func TestPurgeDoesNotTouchUnacked(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), numbered(5)...)
	d := receive(t, sub, "0") // and 1 is buffered
	if n, err := b.Purge("q"); n != 3 || err != nil {
		t.Fatalf("Purge: %d, %v; want 3", n, err)
	}
	wantQueue(t, b, "q", 0, 2, 1)
	settle(t, d, adapters.Requeue)
	receiveAll(t, sub, "1")
	receiveAll(t, sub, "0")
	_, err := b.Purge("none")
	wantErr(t, "Purge", err, adapters.ErrNotFound)
}

func TestAnEmptiedQueueReleasesItsMemory(t *testing.T) {
	b, c := connect(t)
	declare(t, c, fromQueue("q", 0))
	publish(t, c, toQueue("q"), numbered(100)...)
	sub := subscribe(t, c, fromQueue("q", 50))
	for range 50 {
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c.Cut() // half of them are in the heap of those given back
	for range 100 {
		d, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		settle(t, d, adapters.Ack)
	}
	for _, l := range b.routes.queues["q"].ready.levels {
		if l.fresh.head != nil || l.fresh.tail != nil || l.requeued != nil {
			t.Errorf("an empty queue still holds %+v", l)
		}
	}
}
