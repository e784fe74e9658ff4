package faults

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// exchangeDeleted: 14. The exchange is deleted under its publishers.
func exchangeDeleted(x *trial) {
	x.undisturbed()
	site := x.shared()
	w := x.watcher()
	publisher, consumer := site.connect("publisher", watch(w)), site.connect("consumer")
	news := adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}
	group := adapters.Source{Endpoint: news, Group: "g", Prefetch: 50}
	x.consume(x.subscribe(consumer, group), 4, nil)
	x.consume(x.subscribe(consumer, from("jobs", 50)), 4, nil)
	items := x.stream(publisher, adapters.Publication{To: news, Mandatory: true}, "item", 8, 1<<30, 100)
	jobs := x.stream(publisher, toQueue("jobs"), "job", 8, 1<<30, 100)
	for range 3 {
		before := items.confirmed.Load()
		x.await("messages flow", func() bool { return items.confirmed.Load() > before+100 })
		x.h.Add(history.Event{Op: history.Unbind, Client: "raw", To: news, Queue: group.QueueName()})
		x.must(site.raw().ExchangeDelete("news", false, false), "deleting the exchange")
		unroutable := func() (n int) {
			for _, e := range x.h.Events() {
				if errors.Is(e.Err, adapters.ErrUnroutable) {
					n++
				}
			}
			return n
		}
		n := unroutable()
		x.await("it is there again, with no queue bound to it", func() bool { return unroutable() > n })
		x.must(consumer.Declare(x.soon(), group), "declaring again")
	}
	before := items.confirmed.Load()
	x.await("messages flow again", func() bool { return items.confirmed.Load() > before+100 })
	x.finish(items)
	x.finish(jobs)
	x.awaitHandled()
	for _, e := range x.h.Events() {
		if e.Op == history.PublishUnknown && strings.HasPrefix(e.ID, "job") {
			x.errorf("%s, to a queue, had to suffer: %v", e.ID, e.Err)
		}
	}
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was lost")
	}
}

// otherArguments: 15. The queue was declared by somebody else, with other
// arguments.
func otherArguments(x *trial) {
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	bus := x.bus(site.connect("client", through(proxy)), "client")
	ch := site.raw()
	_, err := ch.QueueDeclare("jobs", true, false, false, false, amqp091.Table{"x-queue-type": "quorum", "x-max-length": int32(7)})
	x.must(err, "declaring")
	x.mismatch(bus, "jobs")

	// And while it is being consumed.
	jobs := patterns.NewWorkQueue[string](bus, "others")
	sub, err := jobs.Work(x.ctx, func(context.Context, string) error { return nil })
	x.must(err, "working")
	x.must(jobs.Send(x.soon(), "work"), "sending")
	x.awaitHandled()
	proxy.Down() // so that another is the first to declare it again
	ch = site.raw()
	_, err = ch.QueueDelete("others", false, false, false)
	x.must(err, "deleting")
	_, err = ch.QueueDeclare("others", true, false, false, false, nil)
	x.must(err, "declaring another")
	x.must(proxy.Up(), "letting the client in again")
	x.await("the subscription has ended", func() bool { return isClosed(sub.Done()) })
	x.want(sub.Wait(), adapters.ErrMismatch, "what a subscription says whose queue is another now")
}

// mismatch checks that a queue that is another is refused at once, and only
// once.
func (x *trial) mismatch(bus *patterns.Bus, queue string) {
	jobs := patterns.NewWorkQueue[string](bus, queue)
	for what, f := range map[string]func(context.Context) error{
		"Declare": jobs.Declare,
		"Send":    func(ctx context.Context) error { return jobs.Send(ctx, "work") },
		"Work": func(ctx context.Context) error {
			_, err := jobs.Work(ctx, func(context.Context, string) error { return nil })
			return err
		},
		"TryGet": func(ctx context.Context) error {
			_, err := jobs.TryGet(ctx)
			return err
		},
	} {
		begin := time.Now()
		err := x.within(x.patience, what, f)
		x.want(err, adapters.ErrMismatch, what+" of a queue that is another")
		if e, ok := errors.AsType[*amqp091.Error](err); !ok || e.Code != amqp091.PreconditionFailed {
			x.errorf("%s: the client's own error is not in %v", what, err)
		}
		if took := time.Since(begin); took > 30*time.Second {
			x.errorf("%s: the error took %v", what, took)
		}
	}
}

// otherType: 16. A classic queue where a quorum queue is wanted, and the other
// way round.
func otherType(x *trial) {
	site := x.shared()
	ch := site.raw()
	for _, kind := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		other := map[amqp.QueueType]string{amqp.Quorum: "classic", amqp.Classic: "quorum"}[kind]
		_, err := ch.QueueDeclare("jobs-"+other, true, false, false, false, amqp091.Table{"x-queue-type": other})
		x.must(err, "declaring")
		client := site.connect("client-"+string(kind), func(c *amqp.Config) { c.QueueType = kind })
		x.mismatch(x.bus(client, string(kind)), "jobs-"+other)

		passive := from("jobs-"+other, 1)
		passive.Passive = true
		x.consume(x.subscribe(client, passive), 1, nil) // as it stands, it serves
		x.publish(client, toQueue("jobs-"+other), text("m-"+other, 10))
		x.awaitHandled()
	}
}

// privateQueues: 53. Queues that are gone with their connection come back under
// another name, with the same bindings; what is published in between is missed.
func privateQueues(x *trial) {
	site := x.shared()
	w := x.watcher()
	publisher, consumer := site.connect("publisher"), site.connect("consumer", watch(w))
	news := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	sub := x.subscribe(consumer, adapters.Source{Endpoint: news, Keys: []string{"a.*", "#.z", "b"}, Prefetch: 10})
	var mu sync.Mutex
	seen := map[string]int{}
	x.consume(sub, 1, func(d adapters.Delivery) {
		_ = d.Settle(context.Background(), adapters.Ack)
		mu.Lock()
		defer mu.Unlock()
		seen[d.Message.UUID]++
	})
	came := func(id string) bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[id] > 0
	}
	missed := 0
	for round := range 3 {
		address := sub.Address()
		for i, key := range []string{"a.1", "x.y.z", "b"} {
			name := id("round-"+id("", round), i)
			x.publish(publisher, adapters.Publication{To: news, Key: key, Mandatory: true}, text(name, 10))
			x.await(name+" comes", func() bool { return came(name) })
		}
		_, err := site.CloseConnectionsOf(x.soon(), "consumer consume")
		x.must(err, "closing the connection")
		gap := id("gap", round)
		x.must(publisher.Publish(x.soon(), adapters.Publication{To: news, Key: "b"}, text(gap, 10)), "publishing into the gap")
		w.await(amqp.Connected, "consume", round+2)
		x.await("the queue has another name", func() bool { return sub.Address() != address })
		if !came(gap) {
			missed++
		}
	}
	x.publish(publisher, adapters.Publication{To: news, Key: "b", Mandatory: true}, text("last", 10))
	x.await("the last one comes", func() bool { return came("last") })
	x.t.Logf("%d of 3 messages were published while there was no queue", missed)
}
