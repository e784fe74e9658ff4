package amqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// TestStaleAck: a late acknowledgement, after a reconnect in which tags were
// given out anew, must not settle another message.
func TestStaleAck(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	publish(t, d, mandatory(q), "m1", "m2")
	m1 := receive(t, sub, "m1") // tag 1 of its channel
	if _, err := v.CloseConnections(ctx); err != nil {
		t.Fatal(err)
	}
	<-m1.Message.Context().Done()
	cause := context.Cause(m1.Message.Context())
	wantErr(t, "cause", cause, adapters.ErrSessionLost)
	if e, ok := errors.AsType[*amqp091.Error](cause); !ok || e.Code != amqp091.ConnectionForced {
		t.Errorf("the broker's reason is not there: %v", cause)
	}
	again := receive(t, sub, "m1") // tag 1 of the next
	if !again.Redelivered {
		t.Error("not marked redelivered")
	}
	for _, o := range []adapters.Outcome{adapters.Ack, adapters.Reject, adapters.Requeue} {
		wantErr(t, "late "+o.String(), m1.Settle(ctx, o), adapters.ErrStaleDelivery)
	}
	settle(t, again, adapters.Requeue)
	receiveAll(t, sub, "m1", "m2")
}

// TestChannelLost: the broker may take away one channel, too.
func TestChannelLost(t *testing.T) {
	d := connect(t)
	q := unique(t)
	sub, other := subscribe(t, d, fromQueue(q, 1)), subscribe(t, d, fromQueue(q+".other", 1))
	publish(t, d, mandatory(q), "a")
	publish(t, d, mandatory(q+".other"), "b")
	a, b := receive(t, sub, "a"), receive(t, other, "b")
	c := sub.(*subscription).state.Load().consumer
	if err := c.ch.Ack(99, false); err != nil { // an unknown tag
		t.Fatal(err)
	}
	<-a.Message.Context().Done()
	wantErr(t, "cause", context.Cause(a.Message.Context()), adapters.ErrSessionLost)
	wantErr(t, "late settle", a.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	receiveAll(t, sub, "a")
	settle(t, b, adapters.Ack)
	publish(t, d, mandatory(q+".other"), "c")
	receiveAll(t, other, "c")
}

// TestNothingConfirmedIsLost: publishers and consumers go on while the broker
// closes their connections again and again.
func TestNothingConfirmedIsLost(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 16))
	var confirmed, seen sync.Map
	var sent, done atomic.Int64
	publishing, stop := context.WithCancel(ctx)
	var publishers, consumers sync.WaitGroup
	for g := range 4 {
		publishers.Go(func() {
			for i := 0; publishing.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", g, i)
				err := d.Publish(soon(t), mandatory(q), msg(id))
				switch {
				case err == nil:
					confirmed.Store(id, true)
					sent.Add(1)
				case !errors.Is(err, adapters.ErrUnconfirmed):
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	receiving, halt := context.WithCancel(ctx)
	for range 4 {
		consumers.Go(func() {
			for {
				m, err := sub.Receive(receiving)
				if err != nil {
					return
				}
				err = m.Settle(ctx, adapters.Ack)
				if err == nil {
					seen.Store(m.Message.UUID, true)
					done.Add(1)
				} else if !errors.Is(err, adapters.ErrStaleDelivery) {
					t.Errorf("Settle: %v", err)
				}
			}
		})
	}
	for range 5 {
		before := done.Load()
		eventually(t, "it goes on", func() bool { return done.Load() > before+50 })
		if _, err := v.CloseConnections(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before := done.Load()
	eventually(t, "it goes on", func() bool { return done.Load() > before+50 })
	stop()
	publishers.Wait()
	missing := 0
	eventually(t, "all is received", func() bool {
		missing = 0
		confirmed.Range(func(id, _ any) bool {
			if _, ok := seen.Load(id); !ok {
				missing++
			}
			return true
		})
		return missing == 0
	})
	halt()
	consumers.Wait()
	t.Logf("%d confirmed, %d settled, %d lost", sent.Load(), done.Load(), missing)
}

// TestPrivateAfterReconnect: a private queue has a new name in the next session,
// and a reply address works again.
func TestPrivateAfterReconnect(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t)}
	private := subscribe(t, d, adapters.Source{Endpoint: x, Keys: []string{"a.#"}, Prefetch: 1})
	reply := subscribe(t, d, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
	names := []string{private.Address(), reply.Address()}
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	d.publisher.current().netConn.Abort(errors.New("cut"))
	eventually(t, "both have new names", func() bool { return private.Address() != names[0] && reply.Address() != names[1] })
	publish(t, d, adapters.Publication{To: x, Key: "a.b"}, "1")
	receiveAll(t, private, "1")
	publish(t, d, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: reply.Address()}}, "2")
	receiveAll(t, reply, "2")
}

// TestDeclaredAgain: what was declared is there again after the broker lost it
// together with the connection.
func TestDeclaredAgain(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q, x := unique(t), adapters.Endpoint{Kind: adapters.Direct, Name: unique(t) + ".x"}
	declare(t, d, fromQueue(q, 1))
	declare(t, d, adapters.Source{Endpoint: x, Group: "g", Keys: []string{"a", "b"}})
	declare(t, d, adapters.Source{Endpoint: x, Group: "g", Keys: []string{"c"}})
	if err := d.Unbind(ctx, adapters.Source{Endpoint: x, Group: "g", Keys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{q, x.Name + ":g"} {
		if err := v.DeleteQueue(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	d.publisher.current().netConn.Abort(errors.New("cut"))
	publish(t, d, mandatory(q), "1")
	for key, want := range map[string]error{"a": adapters.ErrUnroutable, "b": nil, "c": nil} {
		if err := d.Publish(ctx, adapters.Publication{To: x, Key: key, Mandatory: true}, msg(key)); !errors.Is(err, want) {
			t.Errorf("key %s: %v, want %v", key, err, want)
		}
	}
}

// TestBlocked: a broker short of memory takes no publishes. They wait as long
// as ctx allows, and consumers go on.
func TestBlocked(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	events := make(chan Event, 100)
	d := connectTo(t, n.URL, func(c *Config) { c.OnEvent = func(e Event) { events <- e }; c.WriteTimeout = time.Second })
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	publish(t, d, mandatory(q), ids("m", 3)...)
	if err := n.MemoryAlarm(ctx); err != nil {
		t.Fatal(err)
	}
	// The first after the alarm tells the broker that this connection publishes.
	sent := 0
	for err := error(nil); err == nil; sent++ {
		if err = d.Publish(shortly(t), mandatory(q), msg("sent")); err != nil {
			wantErr(t, "Publish", err, adapters.ErrUnconfirmed)
		}
	}
	for (<-events).Kind != Blocked {
	}
	if h := d.Health(); h.OK() || !h.Connections[0].Blocked || h.Connections[0].BlockedReason == "" || h.Connections[1].Blocked {
		t.Errorf("%+v", h)
	}
	err := d.Publish(shortly(t), mandatory(q), msg("never"))
	wantErr(t, "Publish", err, adapters.ErrUnavailable)
	wantErr(t, "Publish", err, context.DeadlineExceeded)
	waited := make(chan error, 1)
	go func() { waited <- d.Publish(context.Background(), mandatory(q), msg("waits")) }()
	receiveAll(t, sub, "m0", "m1", "m2")
	subscribe(t, d, fromQueue(q+".other", 1)) // also works
	if err := n.ClearAlarms(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("the publish that waited: %v", err)
	}
	for (<-events).Kind != Unblocked {
	}
	for range sent {
		receiveAll(t, sub, "sent")
	}
	receiveAll(t, sub, "waits")
	if h := d.Health(); !h.OK() || h.Connections[0].Generation != 1 {
		t.Errorf("%+v", h)
	}
}

// TestFrozen: a broker that stops in its tracks keeps nobody longer than ctx
// allows, is found out, and Close ends.
func TestFrozen(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	cfg := configFor(t, n.URL)
	cfg.Heartbeat = 2 * time.Second
	d, err := Connect(soon(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	publish(t, d, mandatory(q), "a")
	a := receive(t, sub, "a")
	payload := make([]byte, 1<<20)
	first := msg("large")
	first.Payload = payload
	patient := connectTo(t, n.URL, func(c *Config) { c.Heartbeat = time.Minute }) // only ctx ends its calls, for WriteTimeout
	if err := patient.Publish(soon(t), mandatory(q), first); err != nil {         // or none of its size would go beside another
		t.Fatal(err)
	}
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	c := patient.publisher.current().netConn
	var mu sync.Mutex
	most := 0
	var all sync.WaitGroup
	for wave := 0; wave < 30 && most == 0; wave++ { // until all that is on the way is full
		for range 20 {
			all.Go(func() {
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					most = max(most, c.Buffered())
				}()
				start := time.Now()
				m := msg("large")
				m.Payload = payload
				err := patient.Publish(shortly(t), mandatory(q), m)
				if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrUnavailable) {
					t.Errorf("Publish: %v", err)
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("Publish took %v", took)
				}
			})
		}
		all.Wait()
	}
	_ = patient.Close(shortly(t))
	if most == 0 || most > netio.HighWater+2<<20 {
		t.Errorf("%d bytes were kept for a broker that does not read", most)
	}
	all.Go(func() {
		wantErr(t, "Declare", d.Declare(shortly(t), fromQueue(q, 1)), context.DeadlineExceeded)
		_, err := d.Subscribe(shortly(t), fromQueue(q, 1))
		wantErr(t, "Subscribe", err, context.DeadlineExceeded)
	})
	all.Wait()
	start := time.Now()
	<-a.Message.Context().Done()
	wantErr(t, "cause", context.Cause(a.Message.Context()), adapters.ErrSessionLost)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("found out after %v", took)
	}
	start = time.Now()
	if err := d.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > settleTime+goodbyeTime+7*time.Second {
		t.Errorf("Close took %v", took)
	}
	wantErr(t, "Receive", func() error { _, err := sub.Receive(ctx); return err }(), adapters.ErrClosed)
}

// TestPowerCut: a node that is killed and started again has lost nothing that
// was confirmed, waiting for its time included.
func TestPowerCut(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{
		// When a message is due before the next queue is up, it is tried again 3 minutes later,
		// else.
		Settings: map[string]string{"dead_letter_worker_publisher_confirm_timeout": "500"},
	})
	d := connectTo(t, n.URL)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	publish(t, d, delayed(toQueue(q), time.Second), "ladder")
	settle(t, receive(t, sub, "ladder"), adapters.Ack)
	publish(t, d, mandatory(q), "in hand")
	inHand := receive(t, sub, "in hand")
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint("ready ", i))
		publish(t, d, mandatory(q), want[i])
	}
	publish(t, d, delayed(toQueue(q), 200*time.Millisecond), "waiting")
	if err := errors.Join(n.Flush(ctx), n.Kill()); err != nil {
		t.Fatal(err)
	}
	<-inHand.Message.Context().Done()
	if err := n.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	publish(t, d, mandatory(q), "after")
	missing := map[string]bool{"in hand": true, "waiting": true, "after": true}
	for _, id := range want {
		missing[id] = true
	}
	for len(missing) > 0 { // what waited may come twice
		m, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatalf("in vain for %v: %v", slices.Collect(maps.Keys(missing)), err)
		}
		delete(missing, m.Message.UUID)
		settle(t, m, adapters.Ack)
	}
}

// TestFewChannels: a broker that allows few channels on a connection gets more
// connections.
func TestFewChannels(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"channel_max": "8"}})
	d := connectTo(t, n.URL)
	q := unique(t)
	subs := make([]adapters.Subscription, 30)
	var all sync.WaitGroup
	for i := range subs { // at once, when there is no session yet to tell how many channels there are
		all.Go(func() {
			var err error
			if subs[i], err = d.Subscribe(soon(t), fromQueue(fmt.Sprint(q, i), 1)); err != nil {
				t.Errorf("Subscribe: %v", err)
			}
		})
	}
	if all.Wait(); t.Failed() {
		return
	}
	for i, sub := range subs {
		publish(t, d, mandatory(fmt.Sprint(q, i)), "a")
		receiveAll(t, sub, "a")
		x := adapters.Endpoint{Kind: adapters.Fanout, Name: fmt.Sprint(q, i)}
		publish(t, d, adapters.Publication{To: x}, "a")
	}
	if open := len(d.consumers); open < 4 || open > 10 {
		t.Errorf("%d connections for 30 subscriptions", open)
	}
}

// TestFewestChannels: everything works where a connection may have one or two channels.
func TestFewestChannels(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	for _, channels := range []string{"1", "2", "3"} {
		t.Run(channels, func(t *testing.T) {
			if err := n.Eval(ctx, nil, `ok = application:set_env(rabbit, channel_max, %s)`, channels); err != nil {
				t.Fatal(err)
			}
			plain, err := amqp091.Dial(n.URL)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(plain.Config.ChannelMax); got != channels {
				t.Errorf("a connection may have %s channels", got)
			}
			if err := plain.Close(); err != nil {
				t.Error(err)
			}
			d := connectTo(t, n.URL)
			name := unique(t)
			q := subscribe(t, d, fromQueue(name, 10))
			x, y := adapters.Endpoint{Kind: adapters.Fanout, Name: name + ".x"}, adapters.Endpoint{Kind: adapters.Topic, Name: name + ".y"}
			group := subscribe(t, d, adapters.Source{Endpoint: x, Group: "g", Prefetch: 10})
			private := subscribe(t, d, adapters.Source{Endpoint: y, Keys: []string{"#"}, Prefetch: 10})
			replies := subscribe(t, d, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
			var all sync.WaitGroup
			for i := range 5 {
				id := fmt.Sprint(i)
				all.Go(func() { publish(t, d, mandatory(name), id) })
				all.Go(func() { publish(t, d, adapters.Publication{To: x}, id) })
				all.Go(func() { publish(t, d, adapters.Publication{To: y, Key: "key"}, id) })
				all.Go(func() { declare(t, d, fromQueue(name+".other."+id, 1)) })
				all.Go(func() {
					publish(t, d, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: x.Name + id}}, id)
				})
			}
			all.Wait()
			for _, sub := range []adapters.Subscription{q, group, private} {
				for _, m := range receiveN(t, sub, 5) {
					settle(t, m, adapters.Ack)
				}
			}
			delayed := toQueue(name)
			delayed.Delay = 100 * time.Millisecond
			publish(t, d, delayed, "delayed")
			receiveAll(t, q, "delayed")
			delayed.To = x
			publish(t, d, delayed, "delayed")
			receiveAll(t, group, "delayed")
			publish(t, d, replyTo(replies.Address()), "reply")
			receiveAll(t, replies, "reply")
			wantErr(t, "Publish", d.Publish(soon(t), mandatory("missing"), msg("a")), adapters.ErrUnroutable)
			publish(t, d, mandatory(name+".other.1"), "a")
			got, err := d.Get(soon(t), fromQueue(name+".other.1", 1))
			if err != nil || got.Message.UUID != "a" {
				t.Fatalf("%+v, %v", got, err)
			}
			settle(t, got, adapters.Ack)
			if g := d.Health().Connections[0].Generation; g != 1 {
				t.Errorf("the connection is the %d.", g)
			}
		})
	}
}
