package amqp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func delayed(p adapters.Publication, d time.Duration) adapters.Publication {
	p.Delay = d
	return p
}

func TestDelay(t *testing.T) {
	for way, by := range waysOfDelay {
		t.Run(way, func(t *testing.T) { testDelay(t, by) })
	}
}

func testDelay(t *testing.T, by func(adapters.Publication) adapters.Publication) {
	d := usesAtOnce(connect(t))
	name := unique(t)
	to := by(toQueue(name))
	sub := subscribe(t, d, fromQueue(name, 10))
	// The longer one is first, and does not hold up the others.
	start := time.Now()
	publish(t, d, delayed(to, time.Hour), "hour")
	publish(t, d, delayed(to, 1500*time.Millisecond), "c")
	publish(t, d, delayed(to, 700*time.Millisecond), "b")
	publish(t, d, delayed(to, time.Millisecond), "a")
	// A machine that is slow to publish them may have them due in another order.
	from := map[string]time.Duration{"a": 0, "b": 700 * time.Millisecond, "c": 1500 * time.Millisecond}
	for len(from) > 0 {
		m, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatalf("%v are missing: %v", from, err)
		}
		id, took := m.Message.UUID, time.Since(start)
		t.Logf("%s after %v", id, took)
		if least, ok := from[id]; !ok || took < least {
			t.Errorf("%s came after %v, want %v", id, took, from)
		}
		delete(from, id)
		if len(m.Message.Metadata) != 0 || m.Key != to.Key || m.Redelivered {
			t.Errorf("%s: %+v, metadata %v", id, m, m.Message.Metadata)
		}
		settle(t, m, adapters.Ack)
	}
	nothing(t, sub)
}

// TestDelayAtOnce: the first messages with a delay, which find no ladder yet, come at the
// same time. RabbitMQ (3.10) refuses what is published to a quorum queue that another is
// just declaring; see TestDeclareAtOnce.
func TestDelayAtOnce(t *testing.T) {
	d := usesAtOnce(connect(t))
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	for rung := range 12 {
		p := adapters.Publication{To: queueAt(q), Delay: delayUnit << (rung / 2)}
		if rung%2 == 1 {
			p = byLadder(p)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if err := d.Publish(soon(t), p, msg(fmt.Sprint(rung, i))); err != nil {
					t.Errorf("rung %d: %v", rung, err)
				}
			})
		}
		all.Wait()
	}
}

func TestDelayToExchange(t *testing.T) {
	d := usesAtOnce(connect(t))
	news := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t)}
	want := subscribe(t, d, adapters.Source{Endpoint: news, Group: "g", Keys: []string{"a.*"}, Prefetch: 5})
	other := subscribe(t, d, adapters.Source{Endpoint: news, Keys: []string{"b.*"}, Prefetch: 5})
	publish(t, d, delayed(adapters.Publication{To: news, Key: "a.x"}, 300*time.Millisecond), "1")
	m := receive(t, want, "1")
	if m.Key != "a.x" {
		t.Errorf("key %q, want a.x", m.Key)
	}
	settle(t, m, adapters.Ack)
	nothing(t, other)
}

// The queues of a delay are named after where it leads, but for names that are
// too long to say more before them.
func TestDelayToLongName(t *testing.T) {
	d := usesAtOnce(connect(t))
	long := strings.Repeat("n", 240)
	for _, src := range []adapters.Source{fromQueue(long, 1), {Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: long}, Prefetch: 1}} {
		sub := subscribe(t, d, src)
		publish(t, d, delayed(adapters.Publication{To: src.Endpoint}, time.Millisecond), src.Kind.String())
		receiveAll(t, sub, src.Kind.String())
	}
}

// Two programs need not agree in the type of their queues.
func TestDelayWithEitherQueueType(t *testing.T) {
	q := unique(t)
	declare(t, connect(t), fromQueue(q, 1))
	src := fromQueue(q, 1)
	src.Passive = true
	for _, kind := range []QueueType{Quorum, Classic} {
		d := usesAtOnce(connect(t, func(c *Config) { c.QueueType = kind }))
		publish(t, d, delayed(toQueue(q), time.Millisecond), string(kind))
		sub := subscribe(t, d, src)
		receiveAll(t, sub, string(kind))
		if err := sub.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// A retry is a delayed message: it must not be lost to a queue that is full
// when it is due.
func TestDelayedMessageWaitsForRoom(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{
		Settings: map[string]string{"dead_letter_worker_publisher_confirm_timeout": "500"}, // 3 minutes else
	})
	for _, kind := range []QueueType{"", Classic} {
		d := usesAtOnce(connectTo(t, n.URL, func(c *Config) { c.QueueType = kind }))
		src := fromQueue("bounded "+string(kind), 1)
		src.Queue.MaxLength = 1
		declare(t, d, src)
		publish(t, d, toQueue(src.Name), "first")
		publish(t, d, delayed(toQueue(src.Name), time.Millisecond), "late")
		// When another one has come the same way, this one was refused.
		witness := subscribe(t, d, fromQueue("witness "+string(kind), 1))
		publish(t, d, delayed(toQueue("witness "+string(kind)), time.Second), "later")
		receiveAll(t, witness, "later")
		receiveAll(t, subscribe(t, d, src), "first", "late")
	}
}

// What has nowhere to go when it is due is dropped. RabbitMQ would keep it, and
// with 32 of these in front nothing else would ever arrive.
func TestDelayedToNowhereHoldsUpNothing(t *testing.T) {
	d := usesAtOnce(connect(t))
	nobody := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: unique(t)}, Key: "a"}
	gone := toQueue(unique(t) + " gone")
	for i := range 40 {
		publish(t, d, delayed(nobody, time.Millisecond), strconv.Itoa(i))
		publish(t, d, delayed(gone, time.Millisecond), strconv.Itoa(i))
		publish(t, d, delayed(byLadder(gone), time.Millisecond), strconv.Itoa(i))
	}
	name := unique(t)
	sub := subscribe(t, d, fromQueue(name, 1))
	some := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t) + " some"}
	member := subscribe(t, d, adapters.Source{Endpoint: some, Group: "g", Prefetch: 1})
	publish(t, d, delayed(toQueue(name), time.Millisecond), "to a queue")
	receiveAll(t, sub, "to a queue")
	publish(t, d, delayed(byLadder(toQueue(name)), time.Millisecond), "to a queue")
	publish(t, d, delayed(adapters.Publication{To: some}, time.Millisecond), "to an exchange")
	receiveAll(t, sub, "to a queue")
	receiveAll(t, member, "to an exchange")
	late := subscribe(t, d, fromQueue(gone.To.Name, 1))
	publish(t, d, gone, "later")
	receiveAll(t, late, "later")
}

// What waits for room in a queue that is full holds up nothing that goes
// elsewhere: RabbitMQ tries no more than 32 of it at once.
func TestDelayedToFullHoldsUpNothing(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	const count = 40
	n := amqptest.Private(t, amqptest.Options{
		Settings: map[string]string{"dead_letter_worker_publisher_confirm_timeout": "500"}, // 3 minutes else
	})
	d := usesAtOnce(connectTo(t, n.URL))
	full := fromQueue("full", 1)
	busy := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "busy"}, Group: "full", Prefetch: 1}
	idle := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "idle"}, Group: "empty", Prefetch: 1}
	full.Queue.MaxLength, busy.Queue.MaxLength = count, count
	for _, src := range []adapters.Source{full, busy} {
		declare(t, d, src)
		to := adapters.Publication{To: src.Endpoint}
		publish(t, d, to, ids("first", count)...)
		publish(t, d, delayed(to, time.Millisecond), ids("late", count)...)
		publish(t, d, delayed(byLadder(to), time.Millisecond), ids("later", count)...)
	}
	for _, src := range []adapters.Source{fromQueue("empty", 1), idle} {
		sub := subscribe(t, d, src)
		for _, p := range []adapters.Publication{{To: src.Endpoint}, byLadder(adapters.Publication{To: src.Endpoint})} {
			publish(t, d, delayed(p, time.Millisecond), "elsewhere")
			receiveAll(t, sub, "elsewhere")
		}
	}
	for _, src := range []adapters.Source{full, busy} {
		sub := subscribe(t, d, src)
		receiveAll(t, sub, ids("first", count)...)
		missing := make(map[string]bool) // they may be out of order
		for _, id := range append(ids("late", count), ids("later", count)...) {
			missing[id] = true
		}
		for len(missing) > 0 {
			m, err := sub.Receive(soon(t))
			if err != nil {
				t.Fatalf("%d messages to %s are lost: %v", len(missing), src.Endpoint, err)
			}
			settle(t, m, adapters.Ack)
			delete(missing, m.Message.UUID)
		}
	}
}

// TestDelayedSurviveRestart: those too that are due while the broker stops, is
// stopped, and starts. They may come twice.
func TestDelayedSurviveRestart(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	const count, step = 300, 10 * time.Millisecond
	n := amqptest.Private(t, amqptest.Options{})
	for _, kind := range []QueueType{Quorum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			d := usesAtOnce(connectTo(t, n.URL, func(c *Config) { c.QueueType = kind }))
			src := fromQueue(unique(t), 100)
			declare(t, d, src)
			missing := map[string]bool{}
			answers := make(chan error, count)
			for i := range count {
				id := strconv.Itoa(i)
				missing[id] = true
				p := delayed(toQueue(src.Name), time.Second+time.Duration(i)*step)
				if i%2 == 1 {
					p = byLadder(p)
				}
				if err := d.PublishAsync(soon(t), p, msg(id), func(err error) { answers <- err }); err != nil {
					t.Fatal(err)
				}
			}
			for range count {
				if err := <-answers; err != nil {
					t.Fatal(err)
				}
			}
			sub := subscribe(t, d, src)
			receive := func() {
				m, err := sub.Receive(soon(t))
				if err != nil {
					t.Fatalf("%d messages are lost: %v", len(missing), err)
				}
				_ = m.Settle(soon(t), adapters.Ack) // or it comes again
				delete(missing, m.Message.UUID)
			}
			for len(missing) > count-10 { // the others are on their way
				receive()
			}
			if err := errors.Join(n.Stop(soon(t)), n.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			for len(missing) > 0 {
				receive()
			}
		})
	}
}
