package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestQueueCheck: a queue that works says so, with its messages where they were; one that does not
// costs a connection that nobody hears of; and a queue that cannot be asked is no certainty.
func TestQueueCheck(t *testing.T) {
	v := amqptest.Shared(t)
	var said notes
	d := connectTo(t, v.URL, said.note)
	src := fromQueue("q", 1)
	declare(t, d, src)
	if !d.works(soon(t), "q") {
		t.Error("an empty queue does not answer")
	}
	publish(t, d, adapters.Publication{To: src.Endpoint}, "1", "2")
	if !d.works(soon(t), "q") {
		t.Error("a queue with messages does not answer")
	}
	sub := subscribe(t, d, src)
	for _, id := range []string{"1", "2"} {
		settle(t, receive(t, sub, id), adapters.Ack)
	}
	if d.works(soon(t), "missing") {
		t.Error("a queue that there is not answers")
	}
	if err := v.StopQueue(soon(t), "q"); err != nil {
		t.Fatal(err)
	}
	d2 := connectTo(t, v.URL, said.note)
	ctx, cancel := context.WithCancel(soon(t))
	lost := make(chan bool)
	go func() { lost <- d2.works(ctx, "q") }()
	eventually(t, "the connection is lost", func() bool {
		d2.checker.mu.Lock()
		defer d2.checker.mu.Unlock()
		return d2.checker.sup != nil && d2.checker.sup.ctx.Err() != nil
	})
	cancel()
	if <-lost {
		t.Error("a queue that does not work answers")
	}
	if err := v.StartQueue(soon(t), "q"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it answers when it works", func() bool { return d2.works(soon(t), "q") })
	said.mu.Lock()
	defer said.mu.Unlock()
	for _, e := range said.events {
		if e.Role == "check" || e.Kind == Lost {
			t.Errorf("said: %+v", e)
		}
	}
}

// TestChecksAreNoReturns: that a queue was asked does not make what it gave a message that came
// back, for which a worker might be blamed. What comes back after that is counted.
func TestChecksAreNoReturns(t *testing.T) {
	for name, receiver := range map[string]func(*testing.T, *Driver, adapters.Source) func() adapters.Delivery{
		"Get": func(t *testing.T, d *Driver, s adapters.Source) func() adapters.Delivery {
			return func() adapters.Delivery {
				m, err := d.Get(soon(t), s)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
		},
		"Subscribe": func(t *testing.T, d *Driver, s adapters.Source) func() adapters.Delivery {
			sub := subscribe(t, d, s)
			return func() adapters.Delivery { return receive(t, sub, "1") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := connectTo(t, amqptest.Shared(t).URL)
			src := fromQueue("q", 1)
			declare(t, d, src)
			publish(t, d, adapters.Publication{To: src.Endpoint}, "1")
			if !d.works(soon(t), "q") {
				t.Fatal("no answer")
			}
			next := receiver(t, d, src)
			if m := next(); m.Returned != 0 {
				t.Errorf("after a check it has returned %d times", m.Returned)
			}
			for _, sup := range d.consumers {
				if conn := sup.current(); conn != nil {
					conn.netConn.Abort(errors.New("cut"))
				}
			}
			if m := next(); m.Returned < 1 {
				t.Errorf("after a lost connection it has returned %d times", m.Returned)
			}
		})
	}
}

// TestQueueChecksEnd: a connection for checks that nobody uses is closed.
func TestQueueChecksEnd(t *testing.T) {
	d := connect(t)
	declare(t, d, fromQueue("q", 1))
	if !d.works(soon(t), "q") {
		t.Fatal("no answer")
	}
	conn, err := d.checker.sup.connection(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	d.checker.mu.Lock()
	d.checker.idle.Reset(0)
	d.checker.mu.Unlock()
	select {
	case <-conn.ctx.Done():
	case <-soon(t).Done():
		t.Error("it is not closed")
	}
	if !d.works(soon(t), "q") {
		t.Error("there is not another one")
	}
}

// TestNoQueueChecks: where there can be no further connection, or enough queues are asked, nothing
// is certain.
func TestNoQueueChecks(t *testing.T) {
	url := amqptest.URL(t)
	d := connectTo(t, url)
	declare(t, d, fromQueue("q", 1))
	for range maxChecks {
		d.checker.slots <- struct{}{}
	}
	if d.works(soon(t), "q") {
		t.Error("one more than there may be was asked")
	}
	for range maxChecks {
		<-d.checker.slots
	}
	right := d.cfg.Addresses
	d.cfg.Addresses = []string{"127.0.0.1:1"}
	ctx, cancel := context.WithCancel(soon(t))
	refused := make(chan bool)
	go func() { refused <- d.works(ctx, "q") }()
	eventually(t, "the login fails", func() bool {
		d.checker.mu.Lock()
		defer d.checker.mu.Unlock()
		return time.Until(d.checker.rest) > checkRest/2
	})
	cancel()
	if <-refused {
		t.Error("asked without a connection")
	}
	d.cfg.Addresses = right
	if d.works(soon(t), "q") {
		t.Error("asked, with no pause after a login that failed")
	}
}

// TestControlChannels: operations use each other's channels, of which there are never more than are
// reserved, and which are closed when there are no more operations. One that fails keeps none.
func TestControlChannels(t *testing.T) {
	d := connect(t)
	conn, err := d.publisher.connection(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	used := map[*amqp091.Channel]bool{}
	note := func(ch *amqp091.Channel) error {
		mu.Lock()
		defer mu.Unlock()
		used[ch] = true
		return nil
	}
	const many = 40
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			if err := conn.withKeptChannel(soon(t), note); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	most := cap(conn.controlSlots)
	idle := func() int { // none, if nothing was asked for long
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return len(conn.idleControls)
	}
	kept := idle()
	if len(used) > many/2 || kept > most {
		t.Errorf("%d operations used %d channels, of which %d are kept, with %d reserved", many, len(used), kept, most)
	}
	if err := conn.withChannel(soon(t), note); err != nil || kept > 0 && idle() >= kept {
		t.Errorf("beside a channel of its own %d are kept, of %d: %v", idle(), kept, err)
	}
	if err := conn.withKeptChannel(soon(t), func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclarePassive(unique(t), true, false, false, false, nil)
		return err
	}); err == nil {
		t.Error("there is a queue")
	}
	var last *amqp091.Channel
	for i := range 2 * most { // which fails on a channel that is closed
		if err := conn.withKeptChannel(soon(t), func(ch *amqp091.Channel) error {
			last = ch
			_, err := ch.QueueDeclare(fmt.Sprint(unique(t), i), false, true, true, false, nil)
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	conn.mu.Lock()
	conn.controlsIdle.Reset(0)
	conn.mu.Unlock()
	eventually(t, "it is closed", last.IsClosed)
}

// TestQueueCheckKeepsOrder: what a check has taken is back before it is over: who consumes then
// gets it first.
func TestQueueCheckKeepsOrder(t *testing.T) {
	d, raw := connect(t), plainClient(t, brokerURL(t))
	src := fromQueue(unique(t), 1)
	declare(t, d, src)
	for round := range 100 {
		publish(t, d, mandatory(src.Name), "1", "2")
		if !d.works(soon(t), src.Name) {
			t.Fatal("no answer")
		}
		deliveries, err := raw.Consume(src.Name, "consumer", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"1", "2"} {
			select {
			case m := <-deliveries:
				if m.MessageId != want {
					t.Fatalf("round %d: got %q, want %q", round, m.MessageId, want)
				}
				if err := m.Ack(false); err != nil {
					t.Fatal(err)
				}
			case <-soon(t).Done():
				t.Fatalf("round %d: %q does not come", round, want)
			}
		}
		if err := raw.Cancel("consumer", false); err != nil {
			t.Fatal(err)
		}
	}
}
