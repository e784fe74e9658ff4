package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

func TestFaultRefuse(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a")
	d := receive(t, sub, "a")
	for _, op := range []Op{OnPublish, OnSubscribe, OnSettle} {
		b.Inject(Fault{On: op, Do: Refuse, Times: 1})
	}
	wantErr(t, "Publish", c.Publish(ctx, toQueue("q"), msg("b")), adapters.ErrUnavailable)
	_, err := c.Subscribe(ctx, fromQueue("p", 1))
	wantErr(t, "Subscribe", err, adapters.ErrUnavailable)
	wantErr(t, "Settle", d.Settle(ctx, adapters.Ack), adapters.ErrUnavailable)
	wantQueue(t, b, "q", 0, 1, 1)
	if _, ok := b.Queue("p"); ok {
		t.Error("a refused Subscribe declared the queue")
	}
	settle(t, d, adapters.Ack) // once only
	wantQueue(t, b, "q", 0, 0, 1)
}

func TestFaultSkipTimesNameAndRemove(t *testing.T) {
	b, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	remove := b.Inject(Fault{On: OnPublish, Name: "q", Skip: 2, Times: 2, Do: Refuse})
	b.Inject(Fault{On: OnPublish, Name: "q", Skip: 3, Do: DropConfirm})
	publish(t, c, toQueue("other"), "x") // does not count
	for i, want := range []error{nil, nil, adapters.ErrUnavailable, adapters.ErrUnavailable, nil, adapters.ErrUnconfirmed, adapters.ErrUnconfirmed} {
		if err := c.Publish(ctx, toQueue("q"), msg("a")); !errors.Is(err, want) {
			t.Errorf("publish %d: %v, want %v", i, err, want)
		}
	}
	wantQueue(t, b, "q", 5, 0, 0)
	remove() // though it is gone
	if len(b.faults.list) != 1 {
		t.Errorf("%d faults left, want 1", len(b.faults.list))
	}

	b, c = connect(t)
	remove = b.Inject(Fault{On: OnPublish, Do: Refuse})
	wantErr(t, "Publish", c.Publish(ctx, toQueue("q"), msg("a")), adapters.ErrUnavailable)
	remove()
	publish(t, c, toQueue("q"), "a")
	if b.faults.any.Load() {
		t.Error("there are still faults to look for")
	}
}

func TestRemovedFaultDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		declare(t, c, fromQueue("q", 1))
		start := time.Now()
		time.AfterFunc(time.Minute, b.Inject(Fault{On: OnPublish, Delay: time.Hour}))
		publish(t, c, toQueue("q"), "a")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("Publish took %v", waited)
		}
	})
}

func TestFaultInABatchConcernsOneMessage(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 3))
	b.Inject(Fault{On: OnPublish, Skip: 1, Times: 1, Do: Refuse})
	err := c.Publish(ctx, toQueue("q"), msg("a"), msg("b"), msg("c"))
	wantErr(t, "Publish", err, adapters.ErrUnavailable)
	if failed := failures(t, err); len(failed) != 1 || failed[0].UUID != "b" {
		t.Errorf("failed: %+v", failed)
	}
	receiveAll(t, sub, "a", "c")
}

func TestFaultLateConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		declare(t, c, fromQueue("q", 1))
		b.Inject(Fault{On: OnPublish, Delay: time.Minute})
		start := time.Now()
		publish(t, c, toQueue("q"), "a")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("Publish took %v", waited)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := c.Publish(short, toQueue("q"), msg("b"))
		wantErr(t, "Publish", err, adapters.ErrUnconfirmed)
		wantErr(t, "Publish", err, context.DeadlineExceeded)
		go func() {
			time.Sleep(time.Second)
			_ = c.Close(ctx)
		}()
		wantErr(t, "Publish and Close", c.Publish(ctx, toQueue("q"), msg("c")), adapters.ErrUnconfirmed)
		wantQueue(t, b, "q", 3, 0, 0) // all of them are stored
	})
}

func TestFaultDelayHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1))
		publish(t, c, toQueue("q"), "a")
		for _, op := range []Op{OnSubscribe, OnDeliver, OnSettle} {
			b.Inject(Fault{On: op, Delay: time.Minute})
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := sub.Receive(short)
		wantErr(t, "Receive", err, context.DeadlineExceeded)
		start := time.Now()
		d := func() adapters.Delivery {
			d, err := sub.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}()
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("Receive took %v", waited)
		}
		short, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = c.Subscribe(short, fromQueue("p", 1))
		wantErr(t, "Subscribe", err, context.DeadlineExceeded)
		wantErr(t, "Settle", d.Settle(short, adapters.Ack), context.DeadlineExceeded)
		wantQueue(t, b, "q", 0, 1, 1)
		settle(t, d, adapters.Ack)
		wantQueue(t, b, "q", 0, 0, 1)
	})
}

func TestFaultDropConfirm(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	b.Inject(Fault{On: OnPublish, Do: DropConfirm})
	wantErr(t, "Publish", c.Publish(ctx, toQueue("q"), msg("a")), adapters.ErrUnconfirmed)
	receive(t, sub, "a")
}

func TestFaultCutSession(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 3))

	b.Inject(Fault{On: OnPublish, Times: 1, Do: CutSession})
	wantErr(t, "Publish", c.Publish(ctx, toQueue("q"), msg("a")), adapters.ErrUnconfirmed)
	d := receive(t, sub, "a")
	if !d.Redelivered {
		t.Error("the session was not cut")
	}

	b.Inject(Fault{On: OnSettle, Times: 1, Do: CutSession})
	wantErr(t, "Settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)

	b.Inject(Fault{On: OnDeliver, Skip: 1, Times: 1, Do: CutSession}) // after so many
	publish(t, c, toQueue("q"), "b")
	first := receive(t, sub, "a")
	again := receive(t, sub, "a") // b was next, but the session was lost on the way
	wantErr(t, "Settle", first.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	settle(t, again, adapters.Ack)
	receiveAll(t, sub, "b")

	b.Inject(Fault{On: OnSubscribe, Times: 1, Do: CutSession})
	wantErr(t, "Declare", c.Declare(ctx, fromQueue("p", 1)), adapters.ErrUnavailable)
}

func TestFaultCancelConsumer(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), "a", "b", "c")
	a := receive(t, sub, "a")
	b.Inject(Fault{On: OnDeliver, Times: 1, Do: CancelConsumer})
	for _, id := range []string{"b", "c"} {
		if d := receive(t, sub, id); !d.Redelivered && id == "b" {
			t.Error("b was not given back")
		}
	}
	settle(t, a, adapters.Ack) // the session is alive
	wantQueue(t, b, "q", 0, 2, 1)
}

func TestHealingWaitsForTheBrokerToLet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		sub := subscribe(t, c, from(adapters.Topic, "g", "#"))
		got := make(chan string)
		go func() {
			d, err := sub.Receive(ctx)
			if err != nil {
				t.Error(err)
			}
			got <- d.Message.UUID
		}()
		synctest.Wait()
		remove := b.Inject(Fault{On: OnSubscribe, Name: "the-topic", Do: Refuse})
		b.Cut()
		b.Cut()
		impatient, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		_, err := sub.Receive(impatient)
		wantErr(t, "Receive meanwhile", err, context.DeadlineExceeded)
		publish(t, c, to(adapters.Topic, "k"), "a")
		wantQueue(t, b, "the-topic:g", 1, 0, 0)
		remove()
		start := time.Now()
		if id := <-got; id != "a" {
			t.Errorf("received %s", id)
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("restored after %v", waited)
		}
	})
}

func TestAStoppedSubscriptionDoesNotHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1))
		ended := make(chan error)
		go func() {
			_, err := sub.Receive(ctx)
			ended <- err
		}()
		synctest.Wait()
		b.Inject(Fault{On: OnSubscribe, Do: Refuse})
		b.Cut()
		synctest.Wait()
		_ = sub.Stop()
		wantErr(t, "Receive", <-ended, adapters.ErrStopped)
		c.wg.Wait() // nothing goes on trying
		wantQueue(t, b, "q", 0, 0, 0)
	})
}

func TestFaultThatMakesNoSensePanics(t *testing.T) {
	for _, f := range []Fault{
		{On: OnSettle, Do: DropConfirm},
		{On: OnDeliver, Do: Refuse},
		{On: OnPublish, Do: CancelConsumer},
		{On: OnPublish, Do: CancelConsumer + 1},
		{On: OnSettle + 1},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was accepted", f)
				}
			}()
			New().Inject(f)
		}()
	}
}
