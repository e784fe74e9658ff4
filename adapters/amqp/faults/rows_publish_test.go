package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// cutBeforeConfirm: 01. The broker has the messages, and the connection is cut
// before it can say so.
func cutBeforeConfirm(x *trial) {
	const before, messages = 2, 50
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	w := x.watcher()
	publisher, consumer := site.connect("publisher", through(proxy), watch(w)), site.connect("consumer")
	x.consume(x.subscribe(consumer, from("jobs", 10)), 4, nil)
	for i := range before { // the second leaves once nothing waits any more for what the first has shown
		x.publish(publisher, toQueue("jobs"), text(id("before", i), 10))
	}
	proxy.Stall(amqptest.ToClient)
	var publishing sync.WaitGroup
	for i := range messages {
		publishing.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), x.patience)
			defer cancel()
			err := publisher.Publish(ctx, toQueue("jobs"), text(id("job", i), 10))
			x.want(err, adapters.ErrUnconfirmed, "publish whose confirm was cut off")
			x.publish(publisher, toQueue("jobs"), text(id("job", i), 10))
		})
	}
	x.await("the broker has all", func() bool { return x.h.Count(history.Settled) == before+messages })
	proxy.Cut()
	proxy.Heal()
	publishing.Wait()
	w.await(amqp.Connected, "publish", 2)
	x.awaitHandled()
	x.await("all second copies come", func() bool { return x.h.Count(history.Settled) == before+2*messages })
}

// cutInBody: 02. The connection is cut in the middle of a message.
func cutInBody(x *trial) {
	site := x.shared()
	proxy := amqptest.ProxyTo(x.t, site.URL)
	publisher, consumer := site.connect("publisher", through(proxy)), site.connect("consumer")
	const size = 1 << 20
	x.consume(x.subscribe(consumer, from("jobs", 10)), 1, func(d adapters.Delivery) {
		if n := len(d.Message.Payload); n != size+2 {
			x.errorf("%q came with %d bytes, want %d", d.Message.UUID, n, size+2)
		}
		_ = d.Settle(context.Background(), adapters.Ack)
	})
	for i := range 10 {
		proxy.LimitBytes(amqptest.ToBroker, size/2+i*1000)
		x.publish(publisher, toQueue("jobs"), text(id("job", i), size))
	}
	x.awaitHandled()
}

// unroutable: 34. Messages that reach no queue, among others that do.
func unroutable(x *trial) {
	const publishers, each = 16, 100
	site := x.shared()
	client := site.connect("client")
	x.consume(x.subscribe(client, from("jobs", 100)), 4, nil)
	nowhere := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Direct, Name: "routes"}, Key: "nobody", Mandatory: true}
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				to, want := toQueue("jobs"), error(nil)
				switch i % 4 {
				case 1:
					to, want = toQueue("missing"), adapters.ErrUnroutable
				case 3:
					to, want = nowhere, adapters.ErrUnroutable
				}
				// The id does not tell them apart: half of them share one.
				m := text(fmt.Sprintf("m-%d-%d", p, i), 10)
				if err := client.Publish(x.soon(), to, m); !errors.Is(err, want) {
					x.errorf("publish of %s to %s: got error %v, want %v", m.UUID, to.To, err, want)
				}
			}
		})
	}
	publishing.Wait()
	x.awaitHandled()

	bus := x.bus(site.connect("bus"), "bus")
	x.must(patterns.NewPubSub[string](bus, "news").Publish(x.soon(), "nobody hears"), "publishing to nobody")
	x.want(patterns.NewPubSub[string](bus, "news").Publish(x.soon(), "hello?", patterns.Mandatory()), adapters.ErrUnroutable, "publishing to nobody, mandatory")
	x.must(patterns.NewWorkQueue[string](bus, "later").Send(x.soon(), "a queue is declared for this"), "sending")
}

// oversize: 32. What is larger than the limit is not sent; what is larger than
// the broker's own costs one channel and nothing else.
func oversize(x *trial) {
	x.undisturbed()
	site := x.limited()
	w := x.watcher()
	client := site.connect("client", watch(w), func(c *amqp.Config) { c.MaxBody = 2 << 20 })
	x.consume(x.subscribe(client, from("jobs", 100)), 4, nil)
	news := adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}
	x.consume(x.subscribe(client, adapters.Source{Endpoint: news, Group: "g", Prefetch: 100}), 4, nil)
	others := x.stream(client, adapters.Publication{To: news}, "news", 4, 1<<30, 100)
	same := x.stream(client, toQueue("jobs"), "neighbour", 4, 1<<30, 100) // on the same channel
	for i := range 5 {
		x.want(client.Publish(x.soon(), toQueue("jobs"), text(id("huge", i), 2<<20)), adapters.ErrTooLarge, "publish over the limit")
		err := client.Publish(x.soon(), toQueue("jobs"), text(id("large", i), 1500<<10))
		x.want(err, adapters.ErrTooLarge, "publish over the broker's limit")
		x.publish(client, toQueue("jobs"), text(id("job", i), 500<<10))
	}
	x.finish(others)
	x.finish(same)
	x.awaitHandled()
	x.nobodySuffered(w)
}

// nobodySuffered checks that no publish is unconfirmed, and no connection was lost.
func (x *trial) nobodySuffered(w *watcher) {
	for _, e := range x.h.Events() {
		if e.Op == history.PublishUnknown {
			x.errorf("%s had to suffer: %v", e.ID, e.Err)
		}
	}
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was lost")
	}
}

// costly: 44. What would cost the connection is refused before it does.
func costly(x *trial) {
	x.undisturbed()
	site := x.shared()
	w := x.watcher()
	client := site.connect("client", watch(w))
	x.consume(x.subscribe(client, from("jobs", 100)), 4, nil)
	others := x.stream(client, toQueue("jobs"), "job", 4, 1<<30, 100)
	ch := site.raw()
	_, err := ch.QueueDeclare("stream", true, false, false, false, amqp091.Table{"x-queue-type": "stream"})
	x.must(err, "declaring a stream")
	x.must(ch.ExchangeDeclare("internal", "fanout", true, false, true, false, nil), "declaring an internal exchange")
	stream := from("stream", 1)
	stream.Passive = true
	for range 5 {
		_, err := client.Get(x.soon(), stream)
		x.want(err, adapters.ErrUnsupported, "get from a stream")
		_, err = client.Subscribe(x.soon(), stream)
		x.want(err, adapters.ErrUnsupported, "subscribe to a stream")
		internal := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: "internal"}}
		x.want(client.Publish(x.soon(), internal, text("i-"+x.number(), 10)), adapters.ErrAccess, "publish to an internal exchange")
	}
	x.finish(others)
	x.awaitHandled()
	_, err = ch.QueueDelete("stream", false, false, false)
	x.must(err, "deleting the stream, which nobody can look into")
	x.nobodySuffered(w)
}

// unsendable: 33. What cannot be said in AMQP is refused before it is sent.
func unsendable(x *trial) {
	x.undisturbed()
	site := x.shared()
	w := x.watcher()
	client := site.connect("client", watch(w))
	x.consume(x.subscribe(client, from("jobs", 100)), 4, nil)
	long := strings.Repeat("k", 256)
	route := func(key string) adapters.Publication {
		return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "news"}, Key: key}
	}
	with := func(change func(*adapters.Publication)) adapters.Publication {
		p := toQueue("jobs")
		change(&p)
		return p
	}
	header := func(key, value string) *message.Message {
		m := text("bad", 10)
		m.Metadata.Set(key, value)
		return m
	}
	for name, c := range map[string]struct {
		p adapters.Publication
		m *message.Message
	}{
		"long key":            {route(long), text("bad", 10)},
		"key with NUL":        {route("a\x00b"), text("bad", 10)},
		"key that is no UTF8": {route("a\xff"), text("bad", 10)},
		"long queue name":     {toQueue(long), text("bad", 10)},
		"amq. exchange":       {adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: "amq.news"}}, text("bad", 10)},
		"long id":             {toQueue("jobs"), text(long, 10)},
		"long content type":   {with(func(p *adapters.Publication) { p.ContentType = long }), text("bad", 10)},
		"long correlation id": {with(func(p *adapters.Publication) { p.CorrelationID = long }), text("bad", 10)},
		"long reply address":  {with(func(p *adapters.Publication) { p.ReplyTo = long }), text("bad", 10)},
		"negative TTL":        {with(func(p *adapters.Publication) { p.TTL = -1 }), text("bad", 10)},
		"endless TTL":         {with(func(p *adapters.Publication) { p.TTL = 1 << 62 }), text("bad", 10)},
		"header of 200 KB":    {toQueue("jobs"), header("big", strings.Repeat("x", 200<<10))},
		"long header name":    {toQueue("jobs"), header(long, "x")},
	} {
		err := x.within(x.patience, "Publish with a "+name, func(ctx context.Context) error { return client.Publish(ctx, c.p, c.m) })
		x.want(err, adapters.ErrInvalid, name)
	}
	x.publish(client, toQueue("jobs"), header("CC", "elsewhere")) // an order to RabbitMQ, from anybody else
	x.publish(client, toQueue("jobs"), text(strings.Repeat("i", 255), 10))
	x.awaitHandled()
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was lost")
	}
}

// fullQueue: 35. A queue of bounded length refuses what is too much.
func fullQueue(x *trial) {
	site := x.shared()
	for _, kind := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		client := site.connect("client-"+string(kind), func(c *amqp.Config) { c.QueueType = kind })
		source := from("bounded-"+string(kind), 10)
		source.Queue.MaxLength = 20
		x.must(client.Declare(x.soon(), source), "declaring")
		var stored, refused int
		for i := range 100 {
			switch err := client.Publish(x.soon(), toQueue(source.Name), text(id("m-"+string(kind), i), 10)); {
			case err == nil:
				stored++
			case errors.Is(err, adapters.ErrNacked):
				refused++
			default:
				x.errorf("publish to a full queue: got error %v, want it to be refused", err)
			}
		}
		if refused == 0 || kind == amqp.Classic && stored != 20 {
			x.errorf("%s: %d were stored and %d refused, with room for 20", kind, stored, refused)
		}
		x.consume(x.subscribe(client, source), 2, nil)
		x.awaitHandled()
		// A quorum queue counts what is acknowledged as gone only some time later.
		begin := time.Now()
		x.publish(client, toQueue(source.Name), text("after-"+string(kind), 10))
		if took := time.Since(begin); took > 30*time.Second {
			x.errorf("%s: room was found after %v", kind, took)
		}
		x.awaitHandled()
	}
}
