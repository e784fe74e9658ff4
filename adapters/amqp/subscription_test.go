package amqp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/internal/rabbitmqtest"
)

// receiveN receives n messages, in any order.
func receiveN(t testing.TB, sub adapters.Subscription, n int) []adapters.Delivery {
	t.Helper()
	var list []adapters.Delivery
	for range n {
		d, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatalf("Receive after %d of %d: %v", len(list), n, err)
		}
		list = append(list, d)
	}
	return list
}

// TestSettleAtRandom settles what many workers hold in random order and with
// random outcomes. In the end each message was acknowledged once, and the broker has none left.
func TestSettleAtRandom(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 32))
	const n = 1000
	publish(t, d, mandatory(q), ids("m", n)...)
	var mu sync.Mutex
	acked := make(map[string]int)
	left := n
	working, finish := context.WithCancel(soon(t))
	defer finish()
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			var mine []adapters.Delivery
			for {
				if len(mine) < 3 {
					if m, err := sub.Receive(working); err == nil {
						mine = append(mine, m)
					}
				}
				if len(mine) == 0 {
					return
				}
				i := rand.IntN(len(mine))
				m := mine[i]
				mine = slices.Delete(mine, i, i+1)
				o := adapters.Ack
				if rand.IntN(4) == 0 {
					o = adapters.Requeue
				}
				settle(t, m, o)
				settle(t, m, adapters.Reject) // harmless
				if o == adapters.Ack {
					mu.Lock()
					acked[m.Message.UUID]++
					if left--; left == 0 {
						finish()
					}
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	for id, count := range acked {
		if count != 1 {
			t.Errorf("%s acknowledged %d times", id, count)
		}
	}
	if len(acked) != n {
		t.Errorf("%d messages acknowledged, want %d", len(acked), n)
	}
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	if info, err := d.inspect(q); err != nil || info.Messages != 0 {
		t.Errorf("left in the queue: %+v %v", info, err)
	}
}

// inspect asks the broker about a queue.
func (d *Driver) inspect(name string) (q amqp091.Queue, err error) {
	err = d.Do(ctx, func(ch *amqp091.Channel) error {
		q, err = ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	return q, err
}

func TestPrefetch(t *testing.T) {
	d := connect(t)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 3))
	publish(t, d, mandatory(q), ids("m", 5)...)
	inHand := receiveN(t, sub, 3)
	nothing(t, sub)
	settle(t, inHand[1], adapters.Ack)
	inHand = append(inHand, receiveN(t, sub, 1)...)
	nothing(t, sub)
	settle(t, inHand[0], adapters.Reject)
	settle(t, inHand[2], adapters.Ack)
	settle(t, inHand[3], adapters.Ack)
	receiveAll(t, sub, "m4")
}

// TestStop: what was not received is back at once and in order, what is in
// hand stays settleable, and the channel goes when that is done.
func TestStop(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 10))
	publish(t, d, mandatory(q), ids("m", 5)...)
	a, b := receive(t, sub, "m0"), receive(t, sub, "m1")
	waiting := make(chan error)
	idle := subscribe(t, d, fromQueue(q+".empty", 1))
	go func() {
		_, err := idle.Receive(ctx)
		waiting <- err
	}()
	for _, s := range []adapters.Subscription{sub, idle, sub} {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "a waiting Receive", <-waiting, adapters.ErrStopped)
	_, err := sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrStopped)

	other := subscribe(t, d, fromQueue(q, 10))
	receiveAll(t, other, "m2", "m3", "m4")
	settle(t, a, adapters.Ack)
	settle(t, b, adapters.Requeue)
	settle(t, b, adapters.Ack)
	receiveAll(t, other, "m1")
	nothing(t, other)
	if a.Message.Context().Err() != nil {
		t.Error("the context of a settled message has ended")
	}
	eventually(t, "the stopped subscriptions' channels are closed", func() bool {
		conns, err := v.Connections(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range conns {
			if strings.HasSuffix(c.ClientName, "consume") {
				return c.Channels == 1
			}
		}
		return false
	})
	settle(t, a, adapters.Ack)
}

// eventually waits for something that comes true by itself.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for ctx := soon(t); !so(); {
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("not so: %s", what)
		}
	}
}

func TestExchanges(t *testing.T) {
	d := connect(t)
	for _, kind := range []adapters.Kind{adapters.Fanout, adapters.Direct, adapters.Topic} {
		x := adapters.Endpoint{Kind: kind, Name: unique(t) + kind.String()}
		var keys []string
		if kind.UsesKeys() {
			keys = []string{"a", "b.#"}
		}
		src := adapters.Source{Endpoint: x, Keys: keys, Prefetch: 10}
		private := subscribe(t, d, src)
		src.Group = "g"
		one, two := subscribe(t, d, src), subscribe(t, d, src)
		for _, key := range []string{"a", "b.x"} {
			p := adapters.Publication{To: x}
			if kind.UsesKeys() {
				p.Key = key
			}
			publish(t, d, p, key)
		}
		want := []string{"a", "b.x"}
		if kind == adapters.Direct {
			want = want[:1]
		}
		for _, id := range want {
			m := receive(t, private, id)
			if kind.UsesKeys() && m.Key != id || !kind.UsesKeys() && m.Key != "" {
				t.Errorf("%v: key %q", kind, m.Key)
			}
			settle(t, m, adapters.Ack)
		}
		// The group shares one copy.
		found := make(chan string, 2*len(want))
		var all sync.WaitGroup
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		for _, sub := range []adapters.Subscription{one, two} {
			all.Go(func() {
				for {
					m, err := sub.Receive(short)
					if err != nil {
						return
					}
					settle(t, m, adapters.Ack)
					found <- m.Message.UUID
				}
			})
		}
		all.Wait()
		if len(found) != len(want) {
			t.Errorf("%v: the group got %d messages, want %d", kind, len(found), len(want))
		}
		if one.Address() != x.Name+":g" || !strings.HasPrefix(private.Address(), "amq.gen-") {
			t.Errorf("addresses %q %q", one.Address(), private.Address())
		}
		// What is for the group's queue alone, with the key it had.
		publish(t, d, adapters.Publication{To: queueAt(one.Address()), Key: "first"}, "direct")
		if err := one.Stop(); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, two, "direct"); m.Key != "first" {
			t.Errorf("key %q", m.Key)
		}
		nothing(t, private)
	}
}

func TestUnbind(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t)}
	src := adapters.Source{Endpoint: x, Group: "g", Keys: []string{"a", "b"}, Prefetch: 10}
	sub := subscribe(t, d, src)
	src.Keys = []string{"a", "never"}
	if err := d.Unbind(ctx, src); err != nil {
		t.Fatal(err)
	}
	publish(t, d, adapters.Publication{To: x, Key: "a"}, "a")
	publish(t, d, adapters.Publication{To: x, Key: "b"}, "b")
	receiveAll(t, sub, "b")
	src.Name += ".not"
	if err := d.Unbind(ctx, src); err != nil {
		t.Errorf("nothing to unbind: %v", err)
	}
	src.Group = ""
	wantErr(t, "private", d.Unbind(ctx, src), adapters.ErrInvalid)
}

// TestPrivateEnds: a private queue goes with its subscription.
func TestPrivateEnds(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}
	sub := subscribe(t, d, adapters.Source{Endpoint: x, Prefetch: 10})
	publish(t, d, adapters.Publication{To: x}, "a", "b")
	a := receive(t, sub, "a")
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	p := adapters.Publication{To: x, Mandatory: true}
	wantErr(t, "publish to nobody", d.Publish(ctx, p, msg("c")), adapters.ErrUnroutable)
	d.consuming[0].now().wire.fail(errors.New("cut"))
	<-a.Message.Context().Done()
	settle(t, a, adapters.Ack)
}

// TestQueueDeleted: a subscription whose queue is deleted declares it again,
// and never receives a message that is none.
func TestQueueDeleted(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	events := make(chan Event, 100)
	d := connectTo(t, v.URL, func(c *Config) { c.OnEvent = func(e Event) { events <- e } })
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 10))
	for range 3 {
		publish(t, d, mandatory(q), "a")
		a := receive(t, sub, "a")
		if err := v.DeleteQueue(ctx, q); err != nil {
			t.Fatal(err)
		}
		for (<-events).Kind != Cancelled {
		}
		settle(t, a, adapters.Ack) // harmless
		eventually(t, "the queue is there again", func() bool { return d.Publish(ctx, mandatory(q), msg("b")) == nil })
		receiveAll(t, sub, "b")
	}
	passive := fromQueue(q, 1)
	passive.Passive = true
	sub = subscribe(t, d, passive)
	if err := v.DeleteQueue(ctx, q); err != nil {
		t.Fatal(err)
	}
	// The other subscription may have declared it again first; then this one goes on.
	if _, err := sub.Receive(shortly(t)); !errors.Is(err, adapters.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: %v", err)
	}
}

func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestPassive(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	d := connectTo(t, v.URL)
	src := fromQueue(unique(t), 1)
	src.Passive = true
	_, err := d.Subscribe(ctx, src)
	wantErr(t, "Subscribe", err, adapters.ErrNotFound)
	wantErr(t, "Declare", d.Declare(ctx, src), adapters.ErrNotFound)
	_, err = d.Get(ctx, src)
	wantErr(t, "Get", err, adapters.ErrNotFound)

	// As it stands, whatever that is.
	declare(t, d, adapters.Source{Endpoint: src.Endpoint, Queue: adapters.QueueSpec{MaxLength: 7, MaxPriority: 3}})
	sub := subscribe(t, d, src)
	publish(t, d, mandatory(src.Name), "a")
	receiveAll(t, sub, "a")
	if err := v.DeleteQueue(ctx, src.Name); err != nil {
		t.Fatal(err)
	}
	_, err = sub.Receive(soon(t))
	wantErr(t, "Receive after the queue was deleted", err, adapters.ErrNotFound)
	if err := sub.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMismatch(t *testing.T) {
	d := connect(t)
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	for i, spec := range []adapters.QueueSpec{
		{MaxLength: 1}, {MaxLength: 1, Overflow: adapters.DropHead}, {MessageTTL: time.Second}, {MaxPriority: 1}, {AutoDelete: true}, {DeadLetter: q + ".dead"},
	} {
		src := adapters.Source{Endpoint: queueAt(q), Queue: spec, Prefetch: 1}
		err := d.Declare(ctx, src)
		wantErr(t, fmt.Sprintf("Declare %d", i), err, adapters.ErrMismatch)
		if e, ok := errors.AsType[*amqp091.Error](err); !ok || e.Code != amqp091.PreconditionFailed {
			t.Errorf("the cause is not there: %v", err)
		}
		_, err = d.Subscribe(ctx, src)
		wantErr(t, "Subscribe", err, adapters.ErrMismatch)
		_, err = d.Get(ctx, src)
		wantErr(t, "Get", err, adapters.ErrMismatch)
	}
	declare(t, d, fromQueue(q, 1))

	x := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t) + ".x"}
	publish(t, d, adapters.Publication{To: x, Key: "k"}, "a")
	x.Kind = adapters.Fanout
	wantErr(t, "Publish", d.Publish(ctx, adapters.Publication{To: x}, msg("a")), adapters.ErrMismatch)
	wantErr(t, "Declare", d.Declare(ctx, adapters.Source{Endpoint: x}), adapters.ErrMismatch)
	wantErr(t, "Declare a reply address", d.Declare(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}}), adapters.ErrInvalid)

	// And all that agrees is fine, twice.
	for i, spec := range []adapters.QueueSpec{
		{MaxLength: 1}, {MaxLength: 1, Overflow: adapters.DropHead, DeadLetter: q}, {MessageTTL: time.Second, DeadLetter: q},
		{MaxPriority: 1, DeadLetter: q}, {AutoDelete: true, DeadLetter: q}, {DeadLetter: q}, {MaxLength: 5, DeadLetter: q},
	} {
		for range 2 {
			declare(t, d, adapters.Source{Endpoint: queueAt(fmt.Sprint(q, i)), Queue: spec})
		}
	}
}

func TestGet(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	d := connectTo(t, v.URL)
	src := fromQueue(unique(t), 0)
	_, err := d.Get(ctx, src)
	wantErr(t, "Get of nothing", err, adapters.ErrEmpty)
	publish(t, d, mandatory(src.Name), "a", "b")
	get := func(id string) adapters.Delivery {
		t.Helper()
		m, err := d.Get(soon(t), src)
		if err != nil || m.Message.UUID != id {
			t.Fatalf("Get: %+v %v, want %s", m, err, id)
		}
		return m
	}
	a, b := get("a"), get("b")
	_, err = d.Get(ctx, src)
	wantErr(t, "Get with all in hand", err, adapters.ErrEmpty)
	settle(t, b, adapters.Ack)
	settle(t, b, adapters.Requeue)
	settle(t, a, adapters.Requeue)
	if a = get("a"); !a.Redelivered {
		t.Error("not redelivered")
	}
	d.consuming[0].now().wire.fail(errors.New("cut"))
	<-a.Message.Context().Done()
	wantErr(t, "cause", context.Cause(a.Message.Context()), adapters.ErrSessionLost)
	wantErr(t, "late settle", a.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	eventually(t, "the message is back", func() bool {
		m, err := d.Get(soon(t), src)
		if err == nil {
			settle(t, m, adapters.Reject)
		}
		return err == nil
	})
	_, err = d.Get(ctx, src)
	wantErr(t, "Get of nothing", err, adapters.ErrEmpty)
	d.mu.Lock()
	defer d.mu.Unlock()
	if used := d.consuming[0].used; used > 1 { // the last settle may still be closing its channel
		t.Errorf("%d channels held", used)
	}
}

func TestDeadLetters(t *testing.T) {
	d := connect(t)
	q := unique(t)
	src := adapters.Source{Endpoint: queueAt(q), Queue: adapters.QueueSpec{DeadLetter: q + ".dead"}, Prefetch: 10}
	sub := subscribe(t, d, src)
	dead := subscribe(t, d, fromQueue(q+".dead", 10))
	p := mandatory(q)
	p.Key, p.Attempt = "k", 3
	publish(t, d, p, "a")
	settle(t, receive(t, sub, "a"), adapters.Reject)
	m := receive(t, dead, "a")
	if m.Key != "k" || m.Attempt != 3 || m.Message.Metadata["x-death"] != q+" rejected 1" ||
		m.Message.Metadata["x-first-death-reason"] != "rejected" || m.Message.Metadata["x-first-death-queue"] != q {
		t.Errorf("%+v %v", m, m.Message.Metadata)
	}
	settle(t, m, adapters.Ack)

	x := adapters.Endpoint{Kind: adapters.Topic, Name: q + ".x"}
	group := adapters.Source{Endpoint: x, Group: "g", Keys: []string{"#"}, Queue: src.Queue, Prefetch: 1}
	sub = subscribe(t, d, group)
	publish(t, d, adapters.Publication{To: x, Key: "its.key"}, "b")
	settle(t, receive(t, sub, "b"), adapters.Reject)
	if m = receive(t, dead, "b"); m.Key != "its.key" {
		t.Errorf("key %q", m.Key)
	}
}
