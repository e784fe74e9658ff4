package memory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

func TestCutGivesEverythingBackInOrder(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 5))
	publish(t, c, toQueue("q"), numbered(8)...)
	var inHand []adapters.Delivery
	for _, id := range numbered(3) { // 3 and 4 are buffered, the rest waits
		inHand = append(inHand, receive(t, sub, id))
	}
	c.Cut()
	for _, d := range inHand {
		if cause := context.Cause(d.Message.Context()); !errors.Is(cause, adapters.ErrSessionLost) {
			t.Errorf("context of a lost message ended with %v", cause)
		}
		for range 2 {
			wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
		}
	}
	wantQueue(t, b, "q", 3, 5, 1)
	for i, id := range numbered(8) {
		d := receive(t, sub, id)
		if d.Redelivered != (i < 5) || d.Attempt != 1 {
			t.Errorf("%s: redelivered %v, attempt %d", id, d.Redelivered, d.Attempt)
		}
		if err := d.Message.Context().Err(); err != nil {
			t.Errorf("context of the new session: %v", err)
		}
		settle(t, d, adapters.Ack)
	}
}

func TestCutOfOneClientLeavesTheOthers(t *testing.T) {
	b, c := connect(t)
	other := b.Connect()
	lost, kept := subscribe(t, c, fromQueue("q", 1)), subscribe(t, other, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a", "b")
	receive(t, lost, "a")
	d := receive(t, kept, "b")
	c.Cut()
	if err := d.Message.Context().Err(); err != nil {
		t.Errorf("context of the other client's message: %v", err)
	}
	settle(t, d, adapters.Ack)
	receive(t, lost, "a")
}

func TestALaterSessionsSettleIsNotAnEarlierOnes(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a", "b")
	stale := receive(t, sub, "a")
	b.Cut()
	d := receive(t, sub, "a")
	wantErr(t, "late settle", stale.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	wantQueue(t, b, "q", 1, 1, 1)
	settle(t, d, adapters.Ack)
	settle(t, d, adapters.Ack)
	wantErr(t, "late settle", stale.Settle(ctx, adapters.Reject), adapters.ErrStaleDelivery)
	receiveAll(t, sub, "b")
}

func TestSettledMessagesDoNotComeBack(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), "a", "b")
	settle(t, receive(t, sub, "a"), adapters.Ack)
	b.Cut()
	receiveAll(t, sub, "b")
	nothing(t, sub)
}

func TestCutEndsWhatWasStopped(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), "a")
	d := receive(t, sub, "a")
	_ = sub.Stop()
	wantQueue(t, b, "q", 0, 1, 0)
	b.Cut()
	wantQueue(t, b, "q", 1, 0, 0)
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	_, err := sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrStopped)
}

func TestPrivateSubscriptionsGetANewQueueAfterCut(t *testing.T) {
	b, c := connect(t)
	reply := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1}
	for _, s := range []adapters.Source{from(adapters.Fanout, ""), reply} {
		sub := subscribe(t, c, s)
		before := sub.Address()
		publish(t, c, to(adapters.Fanout, ""), "a")
		b.Cut()
		if sub.Address() == before {
			t.Errorf("the address is still %q", before)
		}
		nothing(t, sub)
		p := to(adapters.Fanout, "")
		if s.Kind == adapters.Reply {
			p = adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: sub.Address()}}
		}
		publish(t, c, p, "b")
		receive(t, sub, "b")
	}
	if n := len(b.routes.queues) + len(b.routes.replies); n != 2 {
		t.Errorf("%d private queues, want 2", n)
	}
}

func TestReceiversWaitThroughACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1))
		got := make(chan string)
		go func() {
			d, err := sub.Receive(ctx)
			if err != nil {
				t.Error(err)
			}
			got <- d.Message.UUID
		}()
		for range 3 {
			synctest.Wait()
			b.Cut()
		}
		synctest.Wait()
		publish(t, c, toQueue("q"), "a")
		if id := <-got; id != "a" {
			t.Errorf("received %s", id)
		}
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		durable, transient := toQueue("q"), toQueue("q")
		transient.Transient = true
		sub := subscribe(t, c, fromQueue("q", 2))
		private := subscribe(t, c, from(adapters.Fanout, ""))
		declare(t, c, from(adapters.Topic, "g", "k.#"))
		publish(t, c, durable, "a")
		publish(t, c, transient, "b")
		publish(t, c, durable, "c")
		publish(t, c, transient, "d")
		publish(t, c, durable, "e")
		publish(t, c, to(adapters.Fanout, ""), "private")
		durable.Delay, transient.Delay = time.Hour, time.Hour
		publish(t, c, transient, "delayed and transient")
		publish(t, c, durable, "delayed")
		d := receive(t, sub, "a")

		b.Restart()
		wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
		nothing(t, private)
		for _, want := range []struct {
			id          string
			redelivered bool
		}{{"a", true}, {"c", false}, {"e", false}} {
			d := receive(t, sub, want.id)
			if d.Redelivered != want.redelivered {
				t.Errorf("%s: redelivered %v", want.id, d.Redelivered)
			}
			settle(t, d, adapters.Ack)
		}
		nothing(t, sub)
		publish(t, c, to(adapters.Topic, "k"), "bound")
		wantQueue(t, b, "the-topic:g", 1, 0, 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		receiveAll(t, sub, "delayed")
		nothing(t, sub)
	})
}

func TestRestartBuriesWhatExpiredBehindTransientMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		declare(t, c, with(func(*adapters.QueueSpec) {}))
		p := toQueue("q")
		p.Transient = true
		publish(t, c, p, "transient")
		p.Transient, p.TTL = false, time.Second
		publish(t, c, p, "expires")
		time.Sleep(2 * time.Second)
		b.Restart()
		wantQueue(t, b, "q", 0, 0, 0)
		wantDead(t, c, "expired", "expires")
	})
}

func TestCloseOfAClient(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	private := subscribe(t, c, from(adapters.Fanout, ""))
	publish(t, c, toQueue("q"), "a", "b", "c")
	d := receive(t, sub, "a")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range 2 {
		if err := c.Close(ended); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if cause := context.Cause(d.Message.Context()); !errors.Is(cause, adapters.ErrClosed) {
		t.Errorf("context ended with %v", cause)
	}
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrClosed)
	for _, sub := range []adapters.Subscription{sub, private} {
		_, err := sub.Receive(ctx)
		wantErr(t, "Receive", err, adapters.ErrClosed)
		if err := sub.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	wantAllClosed(t, c)
	wantQueue(t, b, "q", 3, 0, 0)
	if len(b.routes.queues) != 1 {
		t.Errorf("%d queues left, want 1", len(b.routes.queues))
	}
	receiveAll(t, subscribe(t, b.Connect(), fromQueue("q", 1)), "a", "b", "c")
}

func wantAllClosed(t *testing.T, c *Client) {
	t.Helper()
	invalid := adapters.Source{}
	wantErr(t, "Publish", c.Publish(ctx, adapters.Publication{}, msg("x")), adapters.ErrClosed)
	wantErr(t, "PublishAsync", c.PublishAsync(ctx, toQueue("q"), msg("x"), nil), adapters.ErrClosed)
	wantErr(t, "Declare", c.Declare(ctx, invalid), adapters.ErrClosed)
	wantErr(t, "Unbind", c.Unbind(ctx, invalid), adapters.ErrClosed)
	_, err := c.Subscribe(ctx, invalid)
	wantErr(t, "Subscribe", err, adapters.ErrClosed)
	_, err = c.Get(ctx, invalid)
	wantErr(t, "Get", err, adapters.ErrClosed)
	if f := c.Features(); f.Adapter != "memory" || f.Ability != adapters.AllV1|adapters.CanCancel|adapters.CanUnique {
		t.Errorf("Features after Close: %+v", f)
	}
}

func TestCloseOfTheBroker(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	publish(t, c, toQueue("q"), "a")
	d := receive(t, sub, "a")
	b.Close()
	b.Close()
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrClosed)
	_, err := sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrClosed)
	wantAllClosed(t, c)
	wantAllClosed(t, b.Connect())
	b.Cut()
	b.Restart()
}

func TestEndedContextDoesNothing(t *testing.T) {
	b, c := connect(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, subscribed := c.Subscribe(ended, fromQueue("q", 1))
	_, got := c.Get(ended, fromQueue("q", 1))
	for verb, err := range map[string]error{
		"Subscribe": subscribed,
		"Get":       got,
		"Declare":   c.Declare(ended, fromQueue("q", 1)),
		"Unbind":    c.Unbind(ended, from(adapters.Fanout, "g")),
		"Publish":   c.Publish(ended, to(adapters.Fanout, ""), msg("a")),
		"Async":     c.PublishAsync(ended, to(adapters.Fanout, ""), msg("a"), nil),
	} {
		wantErr(t, verb, err, context.Canceled)
	}
	if len(b.routes.queues) > 0 || len(b.routes.exchanges) > len(predeclared()) {
		t.Error("something was declared")
	}
}

func TestPublishAsync(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 10))
	answers := make(chan error, 1)
	done := func(err error) {
		_ = c.Declare(ctx, fromQueue("q", 1)) // no lock is held
		answers <- err
	}
	m := msg("a")
	if err := c.PublishAsync(ctx, toQueue("q"), m, done); err != nil {
		t.Fatal(err)
	}
	clear(m.Payload)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	if d := receive(t, sub, "a"); string(d.Message.Payload) != "payload of a" {
		t.Errorf("payload %q", d.Message.Payload)
	}
	p := toQueue("none")
	p.Mandatory = true
	if err := c.PublishAsync(ctx, p, msg("b"), done); err != nil {
		t.Fatal(err)
	}
	if err := <-answers; !errors.Is(err, adapters.ErrUnroutable) || errors.As(err, new(*adapters.PublishError)) {
		t.Errorf("done: %v", err)
	}
}

func TestNothingOutlivesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		b := New()
		c := b.Connect()
		sub := subscribe(t, c, fromQueue("q", 1))
		go func() { _, _ = sub.Receive(ctx) }()
		b.Inject(Fault{On: OnSubscribe, Name: "p", Skip: 1, Do: Refuse})
		subscribe(t, c, fromQueue("p", 1))
		c.Cut() // it is restored without end
		p := toQueue("none")
		p.Delay = time.Hour
		publish(t, c, p, "a")
		declare(t, c, fromQueue("r", 1))
		p = toQueue("r")
		p.TTL = time.Hour
		publish(t, c, p, "b")
		time.Sleep(time.Minute)
		b.Close()
		if b.delays.timer.Stop() {
			t.Error("the timer of the delays was running")
		}
	})
}

func ExampleBroker_Restart() {
	broker := New()
	defer broker.Close()
	driver := broker.Connect()
	queue := adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}
	orders, _ := driver.Subscribe(ctx, adapters.Source{Endpoint: queue, Prefetch: 1})
	_ = driver.Publish(ctx, adapters.Publication{To: queue}, msg("order-1"))

	d, _ := orders.Receive(ctx)
	broker.Restart()
	fmt.Println(context.Cause(d.Message.Context()))
	fmt.Println(d.Settle(ctx, adapters.Ack))

	d, _ = orders.Receive(ctx)
	fmt.Println(d.Message.UUID, "redelivered:", d.Redelivered)
	// Output:
	// motif: session lost
	// motif: stale delivery
	// order-1 redelivered: true
}
