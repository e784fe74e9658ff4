package amqp

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
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
	v := amqptest.Shared(t)
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
	v := amqptest.Shared(t)
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
		receiving, stop := context.WithCancel(ctx)
		defer stop()
		for _, sub := range []adapters.Subscription{one, two} {
			all.Go(func() {
				for {
					m, err := sub.Receive(receiving)
					if err != nil {
						return
					}
					settle(t, m, adapters.Ack)
					found <- m.Message.UUID
				}
			})
		}
		eventually(t, "the group gets them", func() bool { return len(found) >= len(want) })
		sleep(ctx, 100*time.Millisecond) // in which more would come
		stop()
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
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	<-a.Message.Context().Done()
	settle(t, a, adapters.Ack)
}

// TestQueueDeleted: a subscription whose queue is deleted declares it again,
// and never receives a message that is none.
func TestQueueDeleted(t *testing.T) {
	v := amqptest.Shared(t)
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
		none, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		if got, err := sub.Receive(none); err == nil { // as what a closed Go channel yields
			t.Fatalf("received %q, which nobody sent", got.Message.UUID)
		}
		cancel()
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

// TestDeletedQueueIsLeftAlone: where the broker is slow to declare queues it is slow to delete
// them, and a subscription that comes to one meanwhile costs the connection. So it waits for
// longer.
func TestDeletedQueueIsLeftAlone(t *testing.T) {
	v := amqptest.Shared(t)
	cancelled := make(chan time.Time, 1)
	d := connectTo(t, v.URL, func(c *Config) {
		c.OnEvent = func(e Event) {
			if e.Kind == Cancelled {
				cancelled <- time.Now()
			}
		}
	})
	passive := fromQueue(unique(t), 1)
	declare(t, d, passive)
	passive.Passive = true
	sub := subscribe(t, d, passive)
	d.noteDeclareTime(200 * time.Millisecond)
	if err := v.DeleteQueue(ctx, passive.Name); err != nil {
		t.Fatal(err)
	}
	_, err := sub.Receive(soon(t))
	wantErr(t, "Receive", err, adapters.ErrNotFound)
	if waited := time.Since(<-cancelled); waited < 900*time.Millisecond {
		t.Errorf("it came back after %v", waited)
	}
}

func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestStopWhileCancelled: the broker and the program may end a consumer at the same moment. A
// basic.cancel that RabbitMQ (4.3.6) is sent just then may cost the connection (541).
func TestStopWhileCancelled(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	for range 20 {
		sub := subscribe(t, d, fromQueue(q, 10))
		publish(t, d, mandatory(q), "a", "b")
		a := receive(t, sub, "a")
		conn := sub.(*subscription).state.Load().consumer.conn
		var both sync.WaitGroup
		both.Go(func() {
			if err := v.DeleteQueue(ctx, q); err != nil && !errors.Is(err, amqptest.ErrNoQueue) {
				t.Error(err)
			}
		})
		both.Go(func() { _ = sub.Stop() })
		both.Wait()
		if err := a.Settle(soon(t), adapters.Ack); err != nil && (conn.alive() || !errors.Is(err, adapters.ErrStaleDelivery)) {
			t.Error(err)
		}
		_, err := sub.Receive(soon(t))
		wantErr(t, "Receive", err, adapters.ErrStopped)
		_ = v.DeleteQueue(ctx, q) // made again before the subscription was stopped
	}
}

// Somebody makes a deleted queue again before its consumers are told: RabbitMQ lets
// them consume the new one by itself, and drops what it delivers to them.
func TestQueueIsMadeAgainUnderItsConsumers(t *testing.T) {
	const count = 10
	configure := func(c *Config) { c.QueueType = Classic }
	d, other := connect(t, configure), connect(t, configure)
	src := fromQueue(unique(t), 1)
	var subs []adapters.Subscription
	for range count {
		subs = append(subs, subscribe(t, d, src))
	}
	for round := range 10 {
		making, made := context.WithCancel(soon(t))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for making.Err() == nil {
					_ = other.Declare(making, src)
				}
			})
		}
		err := d.Do(soon(t), func(ch *amqp091.Channel) error {
			_, err := ch.QueueDelete(src.Name, false, false, false)
			return err
		})
		made()
		wg.Wait()
		declare(t, other, src)
		for consumers := 0; err == nil && consumers < count; {
			err = d.Do(soon(t), func(ch *amqp091.Channel) error {
				q, err := ch.QueueDeclarePassive(src.Name, true, false, false, false, nil)
				consumers = q.Consumers
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		publish(t, d, mandatory(src.Name), ids(strconv.Itoa(round)+".", count)...)
		var inHand []adapters.Delivery
		for i, sub := range subs {
			m, err := sub.Receive(soon(t))
			if err != nil {
				t.Fatalf("round %d: consumer %d does not receive: %v", round, i, err)
			}
			inHand = append(inHand, m)
		}
		for _, m := range inHand {
			settle(t, m, adapters.Ack)
		}
	}
}

// TestStopAtASilentBroker: neither waits for a broker that says nothing any more, though nothing
// but a heartbeat, which is far, would end the connection.
func TestStopAtASilentBroker(t *testing.T) {
	for name, stop := range map[string]func(adapters.Subscription) error{
		"Stop":          func(sub adapters.Subscription) error { return sub.Stop() },
		"StopAndReturn": func(sub adapters.Subscription) error { return sub.(adapters.Returner).StopAndReturn() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := brokerURL(t)
			proxy := amqptest.ProxyTo(t, url)
			d := connectTo(t, proxy.URL(url), func(c *Config) { c.Heartbeat = 10 * time.Minute })
			sub := subscribe(t, d, fromQueue(unique(t), 1))
			proxy.Stall(amqptest.ToBroker, amqptest.ToClient)
			stopped := make(chan error, 1)
			go func() { stopped <- stop(sub) }()
			select {
			case err := <-stopped:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute): // it gives up after half a second, or five
				t.Error("it waits")
			}
			proxy.Heal()
		})
	}
}

// TestStopWhileSubscribingAgain: a subscription that is stopped while it subscribes again, after a
// lost connection, has given back what the broker sent to its new consumer: whoever comes next gets
// that first.
func TestStopWhileSubscribingAgain(t *testing.T) {
	url := brokerURL(t)
	proxy := amqptest.ProxyTo(t, url)
	d, direct := connectTo(t, proxy.URL(url)), connect(t)
	s := fromQueue(unique(t), 10)
	consumers := func() (n int) {
		err := direct.Do(soon(t), func(ch *amqp091.Channel) error {
			q, err := ch.QueueDeclarePassive(s.Name, true, false, false, false, nil)
			n = q.Consumers
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sub := subscribe(t, d, s)
	publish(t, direct, mandatory(s.Name), ids("m", 20)...)
	receive(t, sub, "m0")
	proxy.Latency(100 * time.Millisecond) // from here on the broker knows of a consumer long before we do
	proxy.Cut()
	eventually(t, "the consumer is gone", func() bool { return consumers() == 0 })
	eventually(t, "there is another", func() bool { return consumers() == 1 })
	if err := sub.(adapters.Returner).StopAndReturn(); err != nil {
		t.Fatal(err)
	}
	receive(t, subscribe(t, direct, s), "m0")
	proxy.Heal()
}
