package faults

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
)

// killUnderLoad: 06. Quorum and classic queues, with 10,000 confirmed messages
// in each, of which the consumers have handled some.
func killUnderLoad(x *trial) { killAfter(x, 10_000, amqp.Quorum, amqp.Classic) }

// killAfter kills the broker when so many messages are confirmed in a queue of
// each type, and many more are under way.
func killAfter(x *trial, atLeast int64, kinds ...amqp.QueueType) {
	const publishers = 128
	node, site := x.node(amqptest.Options{})
	var streams []*stream
	for _, kind := range kinds {
		name := string(kind)
		typed := func(c *amqp.Config) { c.QueueType = kind }
		publisher, consumer := site.connect("publish-"+name, typed), site.connect("consume-"+name, typed)
		sub := x.subscribe(consumer, from(name, 100))
		x.consume(sub, 1, func(d adapters.Delivery) {
			time.Sleep(100 * time.Microsecond) // slower than the publishers
			_ = d.Settle(context.Background(), adapters.Ack)
		})
		streams = append(streams, x.stream(publisher, toQueue(name), name, publishers, 1<<30, 256))
	}
	each := func(n int64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(streams, func(s *stream) bool { return s.confirmed.Load() < n })
		}
	}
	x.await("enough messages are confirmed in each queue", each(atLeast))
	x.must(node.Flush(x.soon()), "writing down which queues there are")
	x.h.Add(history.Event{Op: history.Crash})
	x.must(node.Kill(), "killing the node")
	most := slices.MaxFunc(streams, func(a, b *stream) int { return cmp.Compare(a.confirmed.Load(), b.confirmed.Load()) })
	before := most.confirmed.Load()
	x.must(node.Restart(x.soon()), "starting it again")
	x.await("publishing goes on", each(before+500))
	for _, s := range streams {
		x.finish(s)
	}
	x.awaitHandled()
}

// memoryAlarm: 20. Publishers are blocked, consumers are not.
func memoryAlarm(x *trial) {
	x.undisturbed()
	node, site := x.node(amqptest.Options{})
	x.alarm(site, node.MemoryAlarm, node.ClearAlarms)
	x.alarm(site, node.DiskAlarm, node.ClearAlarms)
}

func (x *trial) alarm(site *site, raise, clear func(context.Context) error) {
	w := x.watcher()
	client := site.connect("client-"+x.number(), watch(w), func(c *amqp.Config) { c.MaxInFlight = 16 })
	source := from("jobs", 1)
	x.must(client.Declare(x.soon(), source), "declaring")
	for range 20 {
		x.publish(client, toQueue("jobs"), text("before-"+x.number(), 100))
	}
	x.must(raise(x.soon()), "raising the alarm")
	// The broker says that it blocks a connection when that publishes next.
	late := x.stream(client, toQueue("jobs"), "late-"+x.number(), 50, 200, 100)
	w.await(amqp.Blocked, "publish", 1)
	err := x.within(500*time.Millisecond, "Publish while blocked", func(ctx context.Context) error {
		return client.Publish(ctx, toQueue("jobs"), text("blocked-"+x.number(), 100))
	})
	if !errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, adapters.ErrUnconfirmed) {
		x.errorf("publish while blocked: got error %v, want it to be unavailable or unconfirmed", err)
	}
	if begun := int(late.confirmed.Load()); begun > 200-16 {
		x.errorf("%d of 200 messages were confirmed while the broker is blocked", begun)
	}
	handled := x.h.Count(history.Settled)
	sub := x.subscribe(client, source) // consuming begins and goes on
	x.consume(sub, 4, nil)
	x.await("consumers go on", func() bool { return x.h.Count(history.Settled) >= handled+20 })
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("the connection was given up while blocked")
	}
	x.must(clear(x.soon()), "clearing the alarm")
	w.await(amqp.Unblocked, "publish", 1)
	x.join(late)
	x.awaitHandled()
	x.must(sub.Stop(), "stopping")
}

// alarmsComeAndGo: 22. Publishers and consumers are at work while memory and disk run out, and
// there is room again, three times. Who publishes waits meanwhile, and nobody is cut off.
func alarmsComeAndGo(x *trial) {
	x.undisturbed()
	node, site := x.node(amqptest.Options{})
	w := x.watcher()
	publisher := site.connect("publisher", watch(w), func(c *amqp.Config) { c.MaxInFlight = 16 })
	x.consume(x.subscribe(site.connect("consumer", watch(w)), from("jobs", 20)), 2, nil)
	s := x.stream(publisher, toQueue("jobs"), "job", 8, 1<<30, 100)
	x.flowing("messages flow", 200, s)
	for i := range 3 {
		for j, raise := range []func(context.Context) error{node.MemoryAlarm, node.DiskAlarm} {
			x.must(raise(x.soon()), "raising an alarm")
			w.await(amqp.Blocked, "publish", 2*i+j+1)
			x.await("consumers handle what is there", func() bool { return x.h.Open() == 0 })
			x.must(node.ClearAlarms(x.soon()), "clearing it")
			w.await(amqp.Unblocked, "publish", 2*i+j+1)
			x.flowing("messages flow again", 200, s)
		}
	}
	x.finish(s)
	x.awaitHandled()
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was given up")
	}
}

// cleanRestart: 07. The application is stopped and started as an operator does:
// topology, subscriptions and messages are there again.
func cleanRestart(x *trial) {
	node, site := x.node(amqptest.Options{})
	publisher, consumer := site.connect("publisher"), site.connect("consumer")
	news := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	group := adapters.Source{Endpoint: news, Group: "g", Keys: []string{"a.*", "#.z"}, Prefetch: 20}
	alone := adapters.Source{Endpoint: news, Keys: []string{"a.*"}, Prefetch: 20}
	x.consume(x.subscribe(consumer, from("jobs", 20)), 4, nil)
	x.consume(x.subscribe(consumer, group), 4, nil)
	var seen atomic.Int64
	x.consume(x.subscribe(consumer, alone), 1, func(d adapters.Delivery) {
		seen.Add(1)
		_ = d.Settle(context.Background(), adapters.Ack)
	})
	jobs := x.stream(publisher, toQueue("jobs"), "job", 16, 1<<30, 100)
	items := x.stream(publisher, adapters.Publication{To: news, Key: "a.b"}, "item", 16, 1<<30, 100)
	flowing := func(what string) {
		j, i, s := jobs.confirmed.Load(), items.confirmed.Load(), seen.Load()
		x.await(what, func() bool {
			return jobs.confirmed.Load() >= j+500 && items.confirmed.Load() >= i+500 && seen.Load() > s+100
		})
	}
	flowing("messages flow")
	x.must(node.Eval(x.soon(), nil, "ok = rabbit:stop()"), "stopping the application")
	x.must(node.Eval(x.soon(), nil, "ok = rabbit:start()"), "starting it again")
	flowing("messages flow again")
	x.finish(jobs)
	x.finish(items)
	x.awaitHandled()
}
