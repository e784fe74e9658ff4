package faults

import (
	"context"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// freeze: 05. The broker stands still for 20 s: no call may wait for it, and
// afterwards all goes on.
func freeze(x *trial) {
	node, site := x.node(amqptest.Options{})
	w := x.watcher()
	publisher, consumer := site.connect("publisher", watch(w)), site.connect("consumer")
	other := site.connect("other")
	leaver := x.bus(site.connect("leaver"), "leaver")
	sub := x.subscribe(consumer, from("jobs", 10))
	x.consume(sub, 5, nil)
	own := x.subscribe(other, from("own", 10))
	for range 10 {
		x.publish(publisher, toQueue("own"), text("own-"+x.number(), 100))
	}
	held := x.receive(own)
	working := make(chan struct{})
	_, err := patterns.NewWorkQueue[string](leaver, "work").Work(x.ctx, func(ctx context.Context, _ string) error {
		close(working)
		<-ctx.Done()
		return ctx.Err()
	})
	x.must(err, "working")
	x.publish(publisher, toQueue("work"), text("work", 100))
	x.await("a handler is at work", func() bool { return isClosed(working) })

	s := x.stream(publisher, toQueue("jobs"), "job", 8, 1<<30, 1000)
	x.await("messages flow", func() bool { return s.confirmed.Load() > 100 })
	x.must(node.Freeze(), "freezing the node")
	frozen := time.Now()

	// Every call comes back, also those with more to write than the socket takes.
	for i := range 8 {
		big := text("big-"+string(rune('a'+i)), 4<<20)
		x.spawn(func(context.Context) {
			err := x.within(2*time.Second, "Publish of 4 MiB", func(ctx context.Context) error {
				return publisher.Publish(ctx, toQueue("jobs"), big)
			})
			if err == nil {
				x.errorf("a frozen broker confirmed a message")
			}
		})
	}
	x.spawn(func(context.Context) {
		_ = x.within(time.Second, "Subscribe", func(ctx context.Context) error {
			_, err := consumer.Subscribe(ctx, from("other", 1))
			return err
		})
		_ = x.within(time.Second, "Declare", func(ctx context.Context) error { return consumer.Declare(ctx, from("other", 1)) })
		_ = x.within(time.Second, "Get", func(ctx context.Context) error {
			_, err := consumer.Get(ctx, from("own", 1))
			return err
		})
	})
	x.spawn(func(context.Context) {
		_ = held.Settle(context.Background(), adapters.Requeue)
		_ = x.within(time.Second, "Stop of a subscription", func(context.Context) error { return own.Stop() })
	})
	x.spawn(func(context.Context) {
		_ = x.within(time.Second, "Close of a bus", leaver.Close)
	})
	w.await(amqp.Lost, "publish", 1)
	if took := time.Since(frozen); took > 15*time.Second {
		x.errorf("found out after %v, with a heartbeat of 2 s", took)
	}
	time.Sleep(time.Until(frozen.Add(20 * time.Second))) // this is the fault
	x.must(node.Thaw(), "thawing it")
	before := s.confirmed.Load()
	x.await("publishing goes on", func() bool { return s.confirmed.Load() > before+100 })
	x.finish(s)
	x.consume(x.subscribe(consumer, from("own", 10)), 1, nil)
	work := from("work", 10)
	work.Passive = true
	x.consume(x.subscribe(consumer, work), 1, nil)
	x.awaitHandled()
}
