package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// undisturbed checks that no connection of d was lost.
func undisturbed(t *testing.T, d *Driver) {
	t.Helper()
	for _, l := range d.Health().Connections {
		if !l.Up || l.Generation != 1 {
			t.Errorf("a connection was lost: %+v", l)
		}
	}
}

// TestCostlyStream: a stream is refused when it is subscribed, or asked for a message, and no other
// use of the connection suffers.
func TestCostlyStream(t *testing.T) {
	v := amqptest.Shared(t)
	ch := foreignChannel(t, v.URL)
	if _, err := ch.QueueDeclare("stream", true, false, false, false, amqp091.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("plain", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URL)
	bystander := subscribe(t, d, fromQueue("q", 1))
	stream, plain := fromQueue("stream", 1), fromQueue("plain", 1)
	stream.Passive, plain.Passive = true, true
	publish(t, d, mandatory("stream"), "a")
	for range 3 {
		_, err := d.Get(soon(t), stream)
		wantErr(t, "Get", err, adapters.ErrUnsupported)
		_, err = d.Subscribe(soon(t), stream)
		wantErr(t, "Subscribe", err, adapters.ErrUnsupported)
		if !strings.Contains(err.Error(), "rabbit_stream_queue") {
			t.Errorf("it does not say why: %v", err)
		}
		_, err = d.Get(soon(t), plain)
		wantErr(t, "Get from another", err, adapters.ErrEmpty)
	}
	publish(t, d, mandatory("plain"), "a", "b")
	m, err := d.Get(soon(t), plain)
	if err != nil || m.Message.UUID != "a" {
		t.Fatalf("%+v, %v", m, err)
	}
	settle(t, m, adapters.Ack)
	receiveAll(t, subscribe(t, d, plain), "b")
	publish(t, d, mandatory("q"), "c")
	receiveAll(t, bystander, "c")
	undisturbed(t, d)
}

// TestCostlyHeaders: a letter whose headers became larger than a frame, for what the broker has
// added, is got as it is received.
func TestCostlyHeaders(t *testing.T) {
	d := connect(t)
	q, dead := unique(t), unique(t)+".dead"
	src := fromQueue(q, 1)
	src.Queue.DeadLetter = dead
	sub := subscribe(t, d, src)
	large := strings.Repeat("x", 130_900)
	p := amqp091.Publishing{MessageId: "a", Headers: amqp091.Table{"large": large}}
	send(t, plainClient(t, brokerURL(t)), "", q, p, p)
	for range 2 {
		settle(t, receive(t, sub, "a"), adapters.Reject)
	}
	letters := fromQueue(dead, 1)
	var m adapters.Delivery
	eventually(t, "the letter can be got", func() bool {
		var err error
		m, err = d.Get(soon(t), letters)
		return err == nil
	})
	if m.Message.UUID != "a" || m.Message.Metadata["large"] != large || m.Message.Metadata["x-death"] == "" {
		t.Errorf("got %q", m.Message.UUID)
	}
	settle(t, m, adapters.Ack)
	m = receive(t, subscribe(t, d, letters), "a")
	if m.Message.Metadata["large"] != large {
		t.Error("it is not whole")
	}
	undisturbed(t, d)
}

// TestCostlyOperation: what the broker closes the connection for is tried twice, the second time
// with a connection of its own, and ends with the broker's reason. What was under way beside it
// goes on.
func TestCostlyOperation(t *testing.T) {
	v := amqptest.Shared(t)
	if _, err := foreignChannel(t, v.URL).QueueDeclare("stream", true, false, false, false, amqp091.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URL)
	bystander := subscribe(t, d, fromQueue("q", 1))
	for _, c := range []struct {
		about string
		tries int
	}{{"stream", 1}, {"another name", 2}} {
		lost := d.Health().Connections[0].Generation
		tries, innocent := 0, make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			innocent <- d.retryOnChannel(soon(t), "innocent", func(conn *connection, ch *amqp091.Channel) error {
				if conn.supervisor == d.publisher && conn.generation == lost {
					close(begun)
					<-conn.ctx.Done()
				}
				_, err := ch.QueueDeclare("innocent", true, false, false, false, nil)
				return err
			})
		}()
		<-begun
		err := d.retryOnChannel(soon(t), c.about, func(_ *connection, ch *amqp091.Channel) error {
			tries++
			_, _, err := ch.Get("stream", false)
			return err
		})
		wantErr(t, "the operation", err, adapters.ErrUnsupported)
		if e, ok := errors.AsType[*amqp091.Error](err); !ok || e.Code != amqp091.NotImplemented {
			t.Errorf("the reason is not there: %v", err)
		}
		if tries != c.tries {
			t.Errorf("%q was tried %d times, want %d", c.about, tries, c.tries)
		}
		if err := <-innocent; err != nil {
			t.Errorf("what was beside it: %v", err)
		}
		publish(t, d, mandatory("q"), "a")
		if g := d.Health().Connections[0].Generation; g != lost+1 {
			t.Errorf("the connection was lost %d times", g-lost)
		}
		receiveAll(t, bystander, "a")
	}
	h := d.Health()
	if len(h.Connections) != 2 || h.Connections[1].Generation != 1 || len(d.dedicatedSlots) > 0 {
		t.Errorf("%+v", h)
	}
}

// TestCostlyQueue: what a publish declares is tried again for as long as the broker calls it an
// internal error, as it may do for new quorum queues: once more on the connection of publishes, and
// then on one of its own.
func TestCostlyQueue(t *testing.T) {
	n := amqptest.Private(t, amqptest.Options{})
	d := connectTo(t, n.URL)
	declare(t, d, fromQueue("q", 1))
	declared, err := d.declaring.lock(ctx, probeQueue)
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { published <- d.Publish(soon(t), delayed(toQueue("q"), delayUnit), msg("a")) }()
	for try := range 5 {
		eventually(t, fmt.Sprint("try ", try, " has come to the queue"), func() (come bool) {
			if err := n.Eval(soon(t), &come, killDeclaring, probeQueue); err != nil {
				t.Fatal(err)
			}
			return come
		})
	}
	eventually(t, "it has a connection of its own", func() bool { return len(d.dedicatedSlots) == 1 }) // between two it pauses
	declared()
	if err := <-published; err != nil {
		t.Errorf("publish: %v", err)
	}
	receiveAll(t, subscribe(t, d, fromQueue("q", 1)), "a")
	if apart := len(d.dedicatedSlots); apart != 0 {
		t.Errorf("%d connections of its own are left", apart)
	}
}

// killDeclaring kills the channels of who has declared this exchange, and is about to declare its
// queue. That costs the connection with an internal error. The next one has to declare both again.
const killDeclaring = `
	Exchange = rabbit_misc:r(<<"/">>, exchange, <<"%s">>),
	case rabbit_exchange:lookup(Exchange) of
		{ok, _} ->
			rabbit_exchange:delete(Exchange, false, <<"test">>),
			[exit(Channel, kill) || Channel <- rabbit_channel:list_local()],
			true;
		_ ->
			false
	end`

// TestSuspectsTakeTurns: operations that cost their connection again and again do not keep another
// from having one of its own.
func TestSuspectsTakeTurns(t *testing.T) {
	d := connect(t)
	broken := &connectionError{why: &frame.CloseError{Err: &amqp091.Error{Code: amqp091.InternalError, Server: true}}}
	ctx, cancel := context.WithCancel(soon(t))
	var hopeless sync.WaitGroup
	for range 2 * maxDedicated {
		hopeless.Go(func() {
			sup := d.publisher
			err := d.withConnection(ctx, &sup, "hopeless", func(*connection) error { return broken })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("hopeless: %v", err)
			}
			if sup != d.publisher {
				d.releaseChannel(sup)
			}
		})
	}
	eventually(t, "no connection is left", func() bool { return len(d.dedicatedSlots) == maxDedicated })
	sup, tries := d.publisher, 0
	if err := d.withConnection(soon(t), &sup, "q", func(*connection) error {
		if tries++; tries <= 3 {
			return broken
		}
		return nil
	}); err != nil {
		t.Errorf("after %d tries: %v", tries, err)
	}
	d.releaseChannel(sup)
	cancel()
	hopeless.Wait()
	if n := len(d.dedicatedSlots); n != 0 {
		t.Errorf("%d connections of their own are left", n)
	}
}

// TestInnocentsLeaveNoConnection: the connection of an operation that turned out to be innocent
// goes with its last channel, unless there is no room on another one: then the next operation needs
// it.
func TestInnocentsLeaveNoConnection(t *testing.T) {
	d := connect(t)
	broken := &connectionError{why: &frame.CloseError{Err: &amqp091.Error{Code: amqp091.InternalError, Server: true}}}
	_ = subscribe(t, d, fromQueue("q", 1))
	open := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.consumers)
	}
	for range 3 {
		sup, err := d.reserveChannel()
		if err != nil {
			t.Fatal(err)
		}
		tries := 0
		if err := d.withConnection(soon(t), &sup, "q", func(*connection) error {
			if tries++; tries == 1 {
				return broken
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		d.shareConnection(sup)
		conn := sup.current()
		d.releaseChannel(sup)
		if n := open(); n != 1 {
			t.Errorf("there are %d connections", n)
		}
		select {
		case <-conn.ctx.Done():
		case <-soon(t).Done():
			t.Fatal("its connection stays open")
		}
	}

	shared := d.consumers[0]
	d.mu.Lock()
	used := shared.used
	shared.used = shared.capacity()
	d.mu.Unlock()
	another, err := d.reserveChannel()
	if err != nil {
		t.Fatal(err)
	}
	d.releaseChannel(another)
	if n := open(); n != 2 || another.ctx.Err() != nil {
		t.Errorf("while the first is full, there are %d connections", n)
	}
	d.mu.Lock()
	shared.used = used
	d.mu.Unlock()
}

// TestCostlyChannels: a limit to a user's channels is an error that says so, where an operation
// needs one more; publishes share those that there are, and what works goes on.
func TestCostlyChannels(t *testing.T) {
	v, user := amqptest.Shared(t), t.Name()
	if err := v.AddUser(ctx, user, password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, user)
	if err := v.SetPermissions(ctx, user, ".*", ".*", ".*"); err != nil {
		t.Fatal(err)
	}
	if err := v.LimitUser(ctx, user, "max-channels", 4); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URLFor(user, password))
	bystander := subscribe(t, d, fromQueue("q", 1))
	var err error
	var subs int
	for ; err == nil && subs < 10; subs++ {
		_, err = d.Subscribe(soon(t), fromQueue(fmt.Sprint("q", subs), 1))
	}
	wantErr(t, "Subscribe", err, ErrLimit)
	if err := v.LimitUser(ctx, user, "max-channels", subs+3); err != nil {
		t.Fatal(err)
	}
	raw := plainClient(t, v.URL)
	eventually(t, "the subscriptions are back", func() bool { // or publishes take the channels that they need
		for i := range subs {
			name := "q"
			if i > 0 {
				name = fmt.Sprint("q", i-1)
			}
			if q, err := raw.QueueDeclarePassive(name, true, false, false, false, nil); err != nil || q.Consumers != 1 {
				return false
			}
		}
		return true
	})
	for i := range 10 {
		x := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: fmt.Sprint("x", i)}}
		eventually(t, "publishes share channels", func() bool { return d.Publish(soon(t), x, msg("a")) == nil })
	}
	n := 0
	eventually(t, "publishes cost no connection", func() bool { // a channel that was closed may count for a moment
		before := d.Health().Connections[0].Generation
		for range 10 {
			y := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: fmt.Sprint("y", n)}}
			if n++; d.Publish(soon(t), y, msg("a")) != nil {
				return false
			}
		}
		return d.Health().Connections[0].Generation == before
	})
	publish(t, d, mandatory("q"), "a")
	receiveAll(t, bystander, "a")
}
