package faults

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// resetWhileIdle: 03. Connections are reset while nobody uses them.
func resetWhileIdle(x *trial) {
	x.heartbeat = time.Minute // it hears of it at once
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	w := x.watcher()
	client := site.connect("client", through(proxy), watch(w))
	x.consume(x.subscribe(client, from("jobs", 10)), 2, nil)
	for round := range 3 {
		x.publish(client, toQueue("jobs"), text(id("job", round), 10))
		x.awaitHandled()
		x.await("nothing is under way", func() bool {
			q, err := site.Queue(x.soon(), "jobs")
			return err == nil && q.Ready == 0 && q.Unacked == 0
		})
		begin := time.Now()
		proxy.Cut()
		w.await(amqp.Connected, "publish", round+2)
		w.await(amqp.Connected, "consume", round+2)
		if took := time.Since(begin); took > 20*time.Second {
			x.errorf("reconnected after %v", took)
		}
	}
	x.publish(client, toQueue("jobs"), text("last", 10))
	x.awaitHandled()
}

// halfOpen: 04. What is sent vanishes, in both directions.
func halfOpen(x *trial) {
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	w := x.watcher()
	client := site.connect("client", through(proxy), watch(w))
	sub := x.subscribe(client, from("jobs", 10))
	x.publish(client, toQueue("jobs"), text("opens the channel", 10))
	x.ack(x.receive(sub))
	x.publish(client, toQueue("jobs"), text("held", 10)) // behind it, so that nothing waits for that channel any more
	held := x.receive(sub)
	begin := time.Now()
	proxy.Blackhole(amqptest.ToBroker, amqptest.ToClient)
	err := x.within(time.Second, "Publish", func(ctx context.Context) error {
		return client.Publish(ctx, toQueue("jobs"), text("swallowed", 10))
	})
	x.want(err, adapters.ErrUnconfirmed, "publish into nothing")
	w.await(amqp.Lost, "publish", 1)
	w.await(amqp.Lost, "consume", 1)
	if took := time.Since(begin); took > 3*2*time.Second+10*time.Second {
		x.errorf("found out after %v, with a heartbeat of 2 s", took)
	}
	x.want(held.Settle(x.soon(), adapters.Ack), adapters.ErrStaleDelivery, "late ack")
	healed := time.Now()
	proxy.Heal()
	x.publish(client, toQueue("jobs"), text("after", 10))
	if took := time.Since(healed); took > 20*time.Second {
		x.errorf("reconnected after %v", took)
	}
	x.consume(sub, 2, nil)
	x.awaitHandled()
}

// settledTwice: 41. Whoever has a delivery does with it what it likes.
func settledTwice(x *trial) {
	x.undisturbed()
	site := x.shared()
	w := x.watcher()
	client := site.connect("client", watch(w))
	sub := x.subscribe(client, from("jobs", 10))
	for i := range 20 {
		x.publish(client, toQueue("jobs"), text(id("job", i), 10))
		d := x.receive(sub)
		var settling sync.WaitGroup
		for _, o := range []adapters.Outcome{adapters.Ack, adapters.Ack, adapters.Requeue, adapters.Reject} {
			if i%2 == 0 || o == adapters.Ack {
				x.must(d.Settle(x.soon(), o), "settling")
				continue
			}
			settling.Go(func() {
				if err := d.Settle(context.Background(), o); err != nil {
					x.errorf("settling: %v", err)
				}
			})
		}
		settling.Wait()
	}
	x.publish(client, toQueue("jobs"), text("got", 10))
	x.must(sub.Stop(), "stopping")
	got, err := client.Get(x.soon(), from("jobs", 1))
	x.must(err, "getting")
	x.ack(got)
	x.ack(got)
	sub = x.subscribe(client, from("jobs", 10))
	x.publish(client, toQueue("jobs"), text("kept", 10))
	kept := x.receive(sub)
	if n := w.count(amqp.Lost, "") + w.count(amqp.Cancelled, ""); n > 0 {
		x.errorf("%d connections and consumers were lost", n)
	}
	x.must(client.Close(x.soon()), "closing")
	x.want(kept.Settle(x.soon(), adapters.Ack), adapters.ErrClosed, "ack after Close")
	x.want(kept.Settle(x.soon(), adapters.Ack), adapters.ErrClosed, "second ack after Close")
	x.must(client.Close(x.soon()), "closing twice")
}

// shutdown: 42. A bus is closed while handlers and publishes are under way, by
// several at once.
func shutdown(x *trial) {
	const messages, publishes = 60, 2000
	site := x.shared()
	for round, patience := range []time.Duration{10 * time.Second, 300 * time.Millisecond, 0} {
		bus := x.bus(site.connect(id("client", round)), "client")
		jobs := patterns.NewWorkQueue[string](bus, id("jobs", round))
		for i := range messages {
			x.must(jobs.Send(x.soon(), "work", patterns.MessageID(fmt.Sprintf("job-%d-%d", round, i))), "sending")
		}
		var begun atomic.Int64
		_, err := jobs.Work(x.ctx, func(ctx context.Context, _ string) error {
			n := begun.Add(1)
			select {
			case <-time.After(time.Duration(n%10) * 100 * time.Millisecond): // work
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, patterns.Workers(20))
		x.must(err, "working")
		x.await("handlers are at work", func() bool { return begun.Load() >= 20 })

		var receipts []*patterns.Receipt
		out := patterns.NewWorkQueue[string](bus, id("out", round))
		for range publishes {
			r, err := out.SendAsync(x.soon(), "more")
			x.must(err, "sending")
			receipts = append(receipts, r)
		}
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(func() {
				_ = x.within(patience, "Close of a bus", bus.Close)
			})
		}
		closing.Wait()
		for _, r := range receipts {
			err := x.within(30*time.Second, "Wait", r.Wait)
			if err != nil && !errors.Is(err, adapters.ErrUnconfirmed) {
				x.errorf("a publish at shutdown: %v", err)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				x.fatalf("a receipt does not say what became of its message")
			}
		}
		x.want(out.Send(x.soon(), "late"), adapters.ErrClosed, "sending after Close")
	}
}

// crowd: 43. A thousand publishers at the same time, through one driver.
func crowd(x *trial) {
	const publishers, each = 1000, 10
	site := x.shared()
	client, consumer := site.connect("client"), site.connect("consumer")
	sub := x.subscribe(consumer, from("jobs", 200))
	last := map[string]int{}
	x.consume(sub, 1, func(d adapters.Delivery) {
		publisher, number, _ := strings.Cut(d.Message.UUID, ".")
		n, _ := strconv.Atoi(number)
		if n <= last[publisher] {
			x.errorf("%s came after number %d", d.Message.UUID, last[publisher])
		}
		last[publisher] = n
		_ = d.Settle(context.Background(), adapters.Ack)
	})
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				if err := client.Publish(x.soon(), toQueue("jobs"), text(fmt.Sprintf("p%d.%d", p, i+1), 100)); err != nil {
					x.errorf("publish: %v", err)
				}
			}
		})
	}
	publishing.Wait()
	channels := 0
	connections, err := site.Connections(x.soon())
	x.must(err, "asking for connections")
	for _, c := range connections {
		channels += c.Channels
	}
	if len(connections) > 4 || channels > 20 {
		x.errorf("%d connections with %d channels", len(connections), channels)
	}
	x.awaitHandled()
}

// fewChannels: 45. A broker that allows 8 channels to a connection, and a
// client that wants many.
func fewChannels(x *trial) {
	const queues, at = 20, 40
	site := x.limited()
	client := site.connect("client")
	for i := range queues {
		x.consume(x.subscribe(client, from(id("jobs", i), 2)), 1, nil)
	}
	var all sync.WaitGroup
	for i := range at {
		all.Go(func() {
			x.publish(client, toQueue(id("jobs", i%queues)), text(id("job", i), 10))
			x.publish(client, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: id("news", i)}}, text(id("item", i), 10))
			if err := client.Declare(x.soon(), from(id("other", i), 1)); err != nil {
				x.errorf("declaring: %v", err)
			}
			if _, err := client.Get(x.soon(), from(id("other", i), 1)); !errors.Is(err, adapters.ErrEmpty) {
				x.errorf("getting from an empty queue: %v", err)
			}
		})
	}
	all.Wait()
	x.await("all are handled", func() bool { return x.h.Count(history.Settled) >= at })
	connections, err := site.Connections(x.soon())
	x.must(err, "asking for connections")
	for _, c := range connections {
		if c.Channels > 8 {
			x.errorf("%d channels on a connection", c.Channels)
		}
	}
}

// lateBroker: 46. There is no broker yet when the program starts.
func lateBroker(x *trial) {
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	proxy.Down()
	cfg := site.config("impatient")
	through(proxy)(&cfg)
	err := x.within(5*time.Second, "Connect", func(ctx context.Context) error {
		_, err := amqp.Connect(ctx, cfg)
		return err
	})
	x.want(err, adapters.ErrUnavailable, "connect to nobody")

	var tries atomic.Int64
	patient := func(c *amqp.Config) {
		through(proxy)(c)
		c.RetryConnect = true
		credentials := c.Credentials
		c.Credentials = func(ctx context.Context) (amqp.Credentials, error) {
			tries.Add(1)
			return credentials(ctx)
		}
	}
	cfg = site.config("in vain")
	patient(&cfg)
	err = x.within(time.Second, "Connect", func(ctx context.Context) error {
		_, err := amqp.Connect(ctx, cfg)
		return err
	})
	x.want(err, adapters.ErrUnavailable, "connect to nobody, again and again")

	tries.Store(0)
	begin := time.Now()
	up := make(chan error, 1)
	x.spawn(func(context.Context) {
		_ = x.h.Wait(x.soon(), func() bool { return tries.Load() >= 10 })
		up <- proxy.Up()
	})
	client := site.connect("patient", patient)
	x.must(<-up, "letting it in")
	if took := time.Since(begin); took < 2*time.Second {
		x.errorf("it tried 10 times in %v", took)
	}
	x.consume(x.subscribe(client, from("jobs", 1)), 1, nil)
	x.publish(client, toQueue("jobs"), text("first", 10))
	x.awaitHandled()
}
