package faults

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// lateHandlers: 11. All connections are closed by force while 50 handlers are
// at work. They finish when their messages were delivered again elsewhere, and their
// connection has others in hand under the same tags.
func lateHandlers(x *trial) {
	const handlers, messages = 50, 400
	site := x.shared()
	gate, holding := make(chan struct{}), atomic.Int64{}
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	w := x.watcher()
	slow := x.bus(site.connect("slow", watch(w)), "slow")
	jobs := patterns.NewWorkQueue[string](slow, "jobs")
	x.must(jobs.Declare(x.soon()), "declaring")
	publisher := x.bus(site.connect("publisher"), "publisher")
	for i := range messages {
		x.must(patterns.NewWorkQueue[string](publisher, "jobs").Send(x.soon(), "work", patterns.MessageID(id("job", i))), "sending")
	}
	_, err := jobs.Work(x.ctx, func(context.Context, string) error {
		holding.Add(1)
		<-gate
		return nil
	}, patterns.Workers(handlers))
	x.must(err, "working")
	x.await("all handlers hold a message", func() bool { return holding.Load() == handlers })

	fast := x.bus(site.connect("fast"), "fast")
	_, err = patterns.NewWorkQueue[string](fast, "jobs").Work(x.ctx, func(context.Context, string) error {
		time.Sleep(10 * time.Millisecond) // to leave enough for the slow one
		return nil
	}, patterns.Workers(2))
	x.must(err, "working elsewhere")

	count, err := site.CloseConnections(x.soon())
	x.must(err, "closing the connections")
	if count < 5 {
		x.fatalf("only %d connections were closed", count)
	}
	w.await(amqp.Connected, "consume", 2)
	x.await("the slow one's new session has messages in hand", func() bool {
		q, err := site.Queue(x.soon(), "jobs")
		return err == nil && q.Unacked >= handlers
	})
	open()
	x.awaitHandled()
	if stale := slow.Stats().Stale; stale != handlers {
		x.errorf("%d handlers were told that they are late, want %d", stale, handlers)
	}
	// What a wrong ack took is gone only when nobody holds it any more.
	_, err = site.CloseConnections(x.soon())
	x.must(err, "closing the connections again")
	w.await(amqp.Connected, "consume", 3)
}

// staleAck: 12. The tags of a new session begin at 1 again.
func staleAck(x *trial) {
	site := x.shared()
	w := x.watcher()
	first, second := site.connect("first", watch(w)), site.connect("second")
	one := x.subscribe(first, from("jobs", 1))
	x.publish(second, toQueue("jobs"), text("m1", 10))
	m1 := x.receive(one)

	two := x.subscribe(second, from("jobs", 1))
	_, err := site.CloseConnectionsOf(x.soon(), "first consume")
	x.must(err, "closing the first one's connection")
	again := x.receive(two) // and it keeps it
	if again.Message.UUID != "m1" || !again.Redelivered {
		x.errorf("got %q, redelivered %v, want m1 again", again.Message.UUID, again.Redelivered)
	}
	<-m1.Message.Context().Done()
	x.want(context.Cause(m1.Message.Context()), adapters.ErrSessionLost, "cause")
	w.await(amqp.Connected, "consume", 2)
	x.publish(second, toQueue("jobs"), text("m2", 10))
	m2 := x.receive(one)

	x.want(m1.Settle(x.soon(), adapters.Ack), adapters.ErrStaleDelivery, "late ack")
	x.want(m1.Settle(x.soon(), adapters.Requeue), adapters.ErrStaleDelivery, "late requeue")
	// A wrong ack would need a moment to get to the broker.
	_ = x.h.Wait(x.bounded(500*time.Millisecond), func() bool {
		q, err := site.Queue(x.soon(), "jobs")
		return err == nil && q.Unacked < 2
	})
	_, err = site.CloseConnectionsOf(x.soon(), "first consume")
	x.must(err, "closing the first one's connection again")
	x.ack(again)
	if again = x.receive(two); again.Message.UUID != "m2" {
		x.errorf("got %q, want m2 again", again.Message.UUID)
	}
	<-m2.Message.Context().Done() // before, an ack is taken and lost with the connection
	x.want(m2.Settle(x.soon(), adapters.Ack), adapters.ErrStaleDelivery, "late ack of m2")
	x.ack(again)
	x.awaitHandled()
}

// queueDeleted: 13. The queue is deleted under its consumers: one that may
// declare it does so, a passive one ends.
func queueDeleted(x *trial) {
	site := x.shared()
	w := x.watcher()
	consumer, publisher := site.connect("consumer", watch(w)), site.connect("publisher")
	bus := x.bus(consumer, "consumer")
	var calls, empty atomic.Int64
	_, err := patterns.NewWorkQueue[string](bus, "jobs").Work(x.ctx, func(ctx context.Context, v string) error {
		calls.Add(1)
		if d, _ := patterns.DeliveryFrom(ctx); d.ID == "" || v == "" {
			empty.Add(1)
		}
		return nil
	}, patterns.Workers(4))
	x.must(err, "working")
	sender := patterns.NewWorkQueue[string](x.bus(publisher, "publisher"), "jobs")
	held := 0
	send := func(from, to int) {
		for i := from; i < to; i++ {
			x.must(sender.Send(x.soon(), "work", patterns.MessageID(id("job", i))), "sending")
		}
		x.await("all are handled", func() bool { return x.h.Open() == held })
	}
	send(0, 50)
	x.must(consumer.Declare(x.soon(), from("passive", 1)), "declaring")
	passive := from("passive", 5)
	passive.Passive = true
	sub := x.subscribe(consumer, passive)
	x.publish(publisher, toQueue("passive"), text("held", 10))
	one := x.receive(sub)
	held = 1

	for i := range 3 {
		x.must(site.DeleteQueue(x.soon(), "jobs"), "deleting the queue")
		w.await(amqp.Cancelled, "consume", i+1)
		// By the consumer alone: of two clients that declare a quorum queue at once,
		// RabbitMQ may refuse one.
		x.await("it is declared and consumed again", func() bool {
			q, err := site.Queue(x.soon(), "jobs")
			return err == nil && q.Consumers == 1
		})
		send(50+50*i, 100+50*i)
	}
	x.must(one.Settle(x.soon(), adapters.Ack), "acknowledging")
	x.must(site.DeleteQueue(x.soon(), "passive"), "deleting the passive one's queue")
	_, err = sub.Receive(x.soon())
	x.want(err, adapters.ErrNotFound, "receiving from a queue that is no more")
	if empty.Load() > 0 || calls.Load() != 200 {
		x.errorf("the handler was called %d times, %d of them with nothing, want 200 and 0", calls.Load(), empty.Load())
	}
}
