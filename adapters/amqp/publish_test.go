package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestPublishOutcomes: each message gets its own result. RabbitMQ confirms
// also what it could not route: that it was returned before makes the difference.
func TestPublishOutcomes(t *testing.T) {
	d := connect(t, func(c *Config) { c.MaxBody = 1000 })
	q, full := unique(t), unique(t)+".full"
	declare(t, d, fromQueue(q, 1))
	declare(t, d, adapters.Source{Endpoint: queueAt(full), Queue: adapters.QueueSpec{MaxLength: 2}})

	wantErr(t, "to nowhere", d.Publish(ctx, mandatory(q+".not"), msg("a")), adapters.ErrUnroutable)
	publish(t, d, toQueue(q+".not"), "a") // nobody asked
	publish(t, d, mandatory(full), "a", "b")
	wantErr(t, "to a full queue", d.Publish(ctx, mandatory(full), msg("c")), adapters.ErrNacked)
	wantErr(t, "too large", d.Publish(ctx, mandatory(q), message.NewMessage("x", make([]byte, 1001))), adapters.ErrTooLarge)
	wantErr(t, "large metadata", d.Publish(ctx, mandatory(q), &message.Message{Metadata: message.Metadata{"a": strings.Repeat("x", 131072)}}), adapters.ErrInvalid)
	if err := d.Publish(ctx, mandatory(q)); err != nil {
		t.Errorf("no messages: %v", err)
	}
	wantErr(t, "no messages, invalid", d.Publish(ctx, toQueue("")), adapters.ErrInvalid)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, "ended ctx", d.Publish(ended, mandatory(q), msg("never")), context.Canceled)

	// One bad message does not stop the others, and the error says which it was.
	large := message.NewMessage("large", make([]byte, 1001))
	err := d.Publish(ctx, mandatory(q), msg("1"), large, msg("2"), nil, msg("3"))
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 1 || failed.Failed[0].UUID != "large" || failed.Failed[1].Index != 3 {
		t.Fatalf("got %v", err)
	}
	receiveAll(t, subscribe(t, d, fromQueue(q, 10)), "1", "2", "3")
}

// TestPublishMany: one call with more messages than may be in flight, in order.
func TestPublishMany(t *testing.T) {
	d := connect(t, func(c *Config) { c.MaxInFlight = 8 })
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	var msgs []*message.Message
	for _, id := range ids("m", 100) {
		msgs = append(msgs, msg(id))
	}
	if err := d.Publish(soon(t), mandatory(q), msgs...); err != nil {
		t.Fatal(err)
	}
	receiveAll(t, subscribe(t, d, fromQueue(q, 10)), ids("m", 100)...)

	err := d.Publish(soon(t), mandatory(q+".not"), msgs...)
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 100 {
		t.Fatalf("got %v", err)
	}
	for i, f := range failed.Failed {
		if f.Index != i || !errors.Is(f.Err, adapters.ErrUnroutable) {
			t.Fatalf("failure %d: %+v", i, f)
		}
	}
}

// TestReturnsUnderConcurrency: of many messages under way on one channel, all
// with the same id, exactly those are unroutable that are.
func TestReturnsUnderConcurrency(t *testing.T) {
	d := connect(t)
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	var all sync.WaitGroup
	var wrong, sent atomic.Int64
	for g := range 16 {
		all.Go(func() {
			for i := range 100 {
				p, want := mandatory(q), error(nil)
				if (g+i)%3 == 0 {
					p, want = mandatory(q+".not"), adapters.ErrUnroutable
				} else {
					sent.Add(1)
				}
				if err := d.Publish(soon(t), p, msg("same")); !errors.Is(err, want) {
					wrong.Add(1)
					t.Errorf("goroutine %d, message %d: %v, want %v", g, i, err, want)
				}
			}
		})
	}
	all.Wait()
	sub := subscribe(t, d, fromQueue(q, 256))
	for range sent.Load() {
		settle(t, receive(t, sub, "same"), adapters.Ack)
	}
	nothing(t, sub)
}

// TestRefusalsAreNotForEver: a channel that refuses is replaced, for the broker may
// have taken a wrong view of the queue there. That costs no order, and no other queue's
// messages.
func TestRefusalsAreNotForEver(t *testing.T) {
	d := connect(t)
	q, full := unique(t), unique(t)+".full"
	sub := subscribe(t, d, fromQueue(q, 256))
	declare(t, d, adapters.Source{Endpoint: queueAt(full), Queue: adapters.QueueSpec{MaxLength: 1}})
	publish(t, d, mandatory(full), "a")
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	sent := 0
	all.Go(func() {
		for ; publishing.Err() == nil; sent++ {
			err := d.PublishAsync(soon(t), mandatory(q), msg(fmt.Sprint(sent)), func(err error) {
				if err != nil {
					t.Errorf("to another queue: %v", err)
				}
			})
			if err != nil {
				t.Errorf("to another queue: %v", err)
			}
		}
	})
	eventually(t, "the queue is full", func() bool { return errors.Is(d.Publish(ctx, mandatory(full), msg("b")), adapters.ErrNacked) })
	for range 3 {
		before := d.publisher.current().slot("").channel.Load()
		before.age()
		wantErr(t, "to a full queue", d.Publish(soon(t), mandatory(full), msg("c")), adapters.ErrNacked)
		eventually(t, "the channel is replaced", func() bool { return d.publisher.current().slot("").channel.Load() != before })
	}
	stop()
	all.Wait()
	for i := range sent {
		settle(t, receive(t, sub, fmt.Sprint(i)), adapters.Ack)
	}
	if g := d.Health().Connections[0].Generation; g != 1 {
		t.Errorf("the connection is the %d.", g)
	}
}

func TestPublishAsync(t *testing.T) {
	d := connect(t, func(c *Config) { c.MaxInFlight = 16 })
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 100))
	var all sync.WaitGroup
	results := make([]error, 200)
	called := make([]atomic.Int64, 200)
	for i := range results {
		p := mandatory(q)
		if i%10 == 0 {
			p = mandatory(q + ".not")
		}
		all.Add(1)
		err := d.PublishAsync(soon(t), p, msg(fmt.Sprint(i)), func(err error) {
			results[i] = err
			called[i].Add(1)
			all.Done()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	for i, err := range results {
		want := error(nil)
		if i%10 == 0 {
			want = adapters.ErrUnroutable
		} else {
			settle(t, receive(t, sub, fmt.Sprint(i)), adapters.Ack) // in order
		}
		if !errors.Is(err, want) || called[i].Load() != 1 {
			t.Errorf("message %d: %v after %d calls", i, err, called[i].Load())
		}
		if _, ok := errors.AsType[*adapters.PublishError](err); ok {
			t.Error("wrapped in a PublishError")
		}
	}
	wantErr(t, "invalid", d.PublishAsync(ctx, toQueue(""), msg("a"), func(error) { t.Error("called") }), adapters.ErrInvalid)
	wantErr(t, "nil", d.PublishAsync(ctx, toQueue(q), nil, func(error) { t.Error("called") }), adapters.ErrInvalid)
}

// TestExchangeDeleted: the publish that the broker closes the channel for, because somebody deleted
// its exchange, was certainly not taken. The exchange is declared again, and the message sent
// again. Other exchanges and the queues do not notice.
func TestExchangeDeleted(t *testing.T) {
	d := connect(t)
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 10))
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t) + ".x"}
	publish(t, d, adapters.Publication{To: x}, "a")
	for range 3 {
		err := d.Do(ctx, func(ch *amqp091.Channel) error { return ch.ExchangeDelete(x.Name, false, false) })
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() { publish(t, d, mandatory(q), "b") })
		all.Go(func() { publish(t, d, adapters.Publication{To: x}, "not lost") })
		all.Wait()
		publish(t, d, adapters.Publication{To: x}, "c")
		receiveAll(t, sub, "b")
	}
}

// TestManyExchanges: more than there are channels to publish with.
func TestManyExchanges(t *testing.T) {
	d := connect(t)
	base := unique(t)
	for round := range 2 {
		for i := range 3 * maxPublishSlots {
			x := adapters.Endpoint{Kind: adapters.Fanout, Name: fmt.Sprint(base, i)}
			publish(t, d, adapters.Publication{To: x}, fmt.Sprint(round))
		}
	}
	if n := len(d.publisher.current().slotList); n != maxPublishSlots {
		t.Errorf("%d lanes", n)
	}
}

// TestReply: a reply reaches the subscription whose address it is for.
func TestReply(t *testing.T) {
	d, server := connect(t), connect(t)
	sub := subscribe(t, d, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 10})
	to := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: sub.Address()}}
	to.CorrelationID = "c"
	publish(t, server, to, "answer")
	if m := receive(t, sub, "answer"); m.CorrelationID != "c" || m.Key != "" {
		t.Errorf("%+v", m)
	}
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	to.Mandatory = true
	wantErr(t, "reply to nobody", server.Publish(ctx, to, msg("late")), adapters.ErrUnroutable)
}

func TestTTL(t *testing.T) {
	d := connect(t)
	q := unique(t)
	declare(t, d, adapters.Source{Endpoint: queueAt(q), Queue: adapters.QueueSpec{DeadLetter: q + ".dead"}})
	dead := subscribe(t, d, fromQueue(q+".dead", 10))
	p := mandatory(q)
	p.TTL = time.Nanosecond
	publish(t, d, p, "a")
	m := receive(t, dead, "a")
	if m.TTL != 0 || m.Message.Metadata["x-first-death-reason"] != "expired" || m.Message.Metadata["x-death"] != q+" expired 1" {
		t.Errorf("%+v %v", m, m.Message.Metadata)
	}
	p.TTL = time.Hour
	publish(t, d, p, "b")
	sub := subscribe(t, d, adapters.Source{Endpoint: queueAt(q), Queue: adapters.QueueSpec{DeadLetter: q + ".dead"}, Prefetch: 1})
	if m := receive(t, sub, "b"); m.TTL != time.Hour {
		t.Errorf("TTL %v", m.TTL)
	}
}

func TestPriority(t *testing.T) {
	d := connect(t)
	q := unique(t)
	src := adapters.Source{Endpoint: queueAt(q), Queue: adapters.QueueSpec{MaxPriority: 5}, Prefetch: 1}
	declare(t, d, src)
	for i, priority := range []uint8{1, 9, 0, 5} { // 9 counts as 5
		p := mandatory(q)
		p.Priority = priority
		publish(t, d, p, fmt.Sprint(i))
	}
	receiveAll(t, subscribe(t, d, src), "1", "3", "0", "2")
}

// TestLimits: queues of bounded length, with either overflow, hold as many as
// they should and take more when there is room.
func TestLimits(t *testing.T) {
	d := connect(t)
	for _, spec := range []adapters.QueueSpec{{MaxLength: 3}, {MaxLength: 3, Overflow: adapters.DropHead}} {
		q := unique(t)
		spec.DeadLetter = q + ".dead"
		src := adapters.Source{Endpoint: queueAt(q), Queue: spec, Prefetch: 1}
		declare(t, d, src)
		publish(t, d, mandatory(q), "1", "2", "3")
		if spec.Overflow == adapters.RejectPublish {
			wantErr(t, "to a full queue", d.Publish(ctx, mandatory(q), msg("4")), adapters.ErrNacked)
			m, err := d.Get(ctx, src)
			if err != nil {
				t.Fatal(err)
			}
			settle(t, m, adapters.Ack)
		}
		publish(t, d, mandatory(q), "5")
		receiveAll(t, subscribe(t, d, src), "2", "3", "5")
		if spec.Overflow == adapters.DropHead {
			m := receive(t, subscribe(t, d, fromQueue(q+".dead", 1)), "1")
			if m.Message.Metadata["x-first-death-reason"] != "maxlen" {
				t.Errorf("%v", m.Message.Metadata)
			}
		}
	}
}

// TestWaitTakesTheResult: a result that is there counts, also for a caller
// whose ctx has ended.
func TestWaitTakesTheResult(t *testing.T) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range 20 { // select would take either
		w := waiterPool.Get().(*waiter)
		w.done(adapters.ErrNacked)
		wantErr(t, "answered", w.wait(ended), adapters.ErrNacked)
	}
	w := waiterPool.Get().(*waiter)
	wantErr(t, "not answered", w.wait(ended), adapters.ErrUnconfirmed)
	w.done(nil) // too late, and harmless
}

// TestPayloadIsThePublishersAgain: a payload that is too large to be copied belongs to its
// publisher as soon as the call returns, also if that was because its ctx ended before the broker
// read everything. What arrives is what was sent.
func TestPayloadIsThePublishersAgain(t *testing.T) {
	url := brokerURL(t)
	proxy := amqptest.ProxyTo(t, url)
	d := connectTo(t, proxy.URL(url), func(c *Config) { c.Heartbeat = time.Minute })
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	publish(t, d, mandatory(q), "opens the channel")
	proxy.Stall(amqptest.ToBroker)
	sent := msg("large")
	sent.Payload = bytes.Repeat([]byte("large"), 3<<20)
	outcome := make(chan error, 1)
	if err := d.PublishAsync(shortly(t), mandatory(q), sent, func(err error) { outcome <- err }); err != nil {
		t.Fatalf("PublishAsync: %v", err)
	}
	select {
	case err := <-outcome:
		t.Fatalf("confirmed (%v), though the broker cannot have read it", err)
	default:
	}
	clear(sent.Payload)
	proxy.Heal()
	if err := <-outcome; err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, d, fromQueue(q, 2))
	receive(t, sub, "opens the channel")
	if got := receive(t, sub, "large").Message.Payload; !bytes.Equal(got, bytes.Repeat([]byte("large"), 3<<20)) {
		t.Errorf("%d bytes arrived, of %d, or others", len(got), 15<<20)
	}
}
