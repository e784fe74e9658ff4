package faults

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// killedWorker: 29. A process is killed -9 while its handlers are at work.
func killedWorker(x *trial) {
	const held, messages = 3, 20
	site := x.shared()
	bus := x.bus(site.connect("here"), "here")
	jobs := patterns.NewWorkQueue[string](bus, "jobs")
	for i := range messages {
		x.must(jobs.Send(x.soon(), "work", patterns.MessageID(id("job", i))), "sending")
	}
	c := site.child("worker", "jobs", held)
	for range held {
		if h := c.await(); h.Redelivered {
			x.errorf("the child got %q as redelivered", h.ID)
		}
	}
	c.kill()
	var again atomic.Int64
	_, err := jobs.Work(x.ctx, func(ctx context.Context, _ string) error {
		if d, _ := patterns.DeliveryFrom(ctx); d.Redelivered {
			again.Add(1)
		}
		return nil
	}, patterns.Workers(2))
	x.must(err, "working")
	x.awaitHandled()
	if again.Load() != held {
		x.errorf("%d messages were redelivered, want the %d that the child held", again.Load(), held)
	}
}

// panics: 26. Handlers panic; their workers live on, and what they panic about
// ends with the dead letters.
func panics(x *trial) {
	x.failing(func() error { panic("the kitchen is on fire") })
}

// failing checks that messages whose handler fails are tried so often and no more.
func (x *trial) failing(fail func() error) {
	const attempts, bad, good = 3, 5, 30
	site := x.shared()
	const most = 200_000
	bus := x.bus(site.connect("client", func(c *amqp.Config) { c.MaxBody = most }), "client")
	jobs := patterns.NewWorkQueue[string](bus, "jobs")
	var tries, fine atomic.Int64
	sub, err := jobs.Work(x.ctx, func(_ context.Context, v string) error {
		if v == "bad" {
			tries.Add(1)
			return fail()
		}
		fine.Add(1)
		return nil
	}, patterns.Workers(2), patterns.Retry(patterns.RetryPolicy{Attempts: attempts, Min: 100 * time.Millisecond}))
	x.must(err, "working")
	for i := range bad {
		x.must(jobs.Send(x.soon(), "bad", patterns.MessageID(id("bad", i))), "sending")
	}
	for i := range good {
		x.must(jobs.Send(x.soon(), "good", patterns.MessageID(id("good", i))), "sending")
	}
	x.await("the failures are dead letters", func() bool { return bus.Stats().DeadLettered == bad })
	x.await("the others are handled", func() bool { return fine.Load() == good })
	x.must(sub.Stop(x.soon()), "stopping")
	if tries.Load() != attempts*bad {
		x.errorf("handlers failed %d times, want %d", tries.Load(), attempts*bad)
	}
	site.depth("jobs.dead", bad)
	site.depth("jobs", 0)
}

// endlessErrors: 27. A handler that always fails.
func endlessErrors(x *trial) {
	x.failing(func() error { return fmt.Errorf("out of stock") })
}

// depth waits until a queue has so many messages ready and none in hand.
func (s *site) depth(queue string, want int) {
	var ready, unacked int
	err := s.x.h.Wait(s.x.soon(), func() bool {
		q, err := s.Queue(s.x.soon(), queue)
		s.x.must(err, "asking for "+queue)
		ready, unacked = q.Ready, q.Unacked
		return ready == want && unacked == 0
	})
	if err != nil {
		s.x.errorf("queue %q has %d messages and %d in hand, want %d and none", queue, ready, unacked, want)
	}
}

// poison: 30. Payloads that no handler can be called with.
func poison(x *trial) {
	type order struct{ Number int }
	site := x.shared()
	const most = 200_000
	bus := x.bus(site.connect("client", func(c *amqp.Config) { c.MaxBody = most }), "client")
	jobs := patterns.NewWorkQueue[order](bus, "jobs")
	var handled atomic.Int64
	_, err := jobs.Work(x.ctx, func(context.Context, order) error { handled.Add(1); return nil })
	x.must(err, "working")
	bad := []amqp091.Publishing{
		{Body: []byte("{")},
		{Body: nil},
		{Body: []byte(`{"Number":"seven"}`), ContentType: "application/json"},
		{Body: []byte("\xff\xfe"), ContentType: "text/plain"},
		{Body: []byte("{}"), ContentType: "application/x-java-serialized-object"},
		{Body: []byte("{}"), ContentType: "///;;;\n"},
		{Body: []byte("{"), CorrelationId: "\x00", ReplyTo: "\r\n", Expiration: "100000"},
		{Body: []byte("\x1f\x8b\x08"), ContentType: "application/json", ContentEncoding: "gzip"},
		{Body: []byte(strings.Repeat("[", 100_000))},
		{Body: []byte(strings.Repeat("[", most+1))},
		{Body: []byte("{"), Headers: amqp091.Table{"big": strings.Repeat("x", 130_000)}},
		{Body: []byte("{"), Headers: amqp091.Table{"x-" + strings.Repeat("h", 250): "x"}},
	}
	ch := site.raw()
	for i, p := range bad {
		site.send(ch, "jobs", id("bad", i), p)
		x.must(jobs.Send(x.soon(), order{i}, patterns.MessageID(id("good", i))), "sending")
	}
	x.await("good ones are handled", func() bool { return int(handled.Load()) == len(bad) })
	x.await("bad ones are dead letters", func() bool { return int(bus.Stats().DeadLettered) == len(bad) })
	if s := bus.Stats(); s.Retried+s.Requeued+s.Dropped > 0 {
		x.errorf("some were tried again: %+v", s)
	}
	dead := x.subscribe(bus.Driver(), from("jobs.dead", 100))
	for range bad {
		d := x.receive(dead)
		m := d.Message.Metadata
		switch {
		case m[patterns.HeaderReason] != "" && m[patterns.HeaderAttempts] == "1":
		case m["x-first-death-reason"] == "rejected": // what cannot be sent with a reason
		default:
			x.errorf("dead letter %q does not say what it died of", d.Message.UUID)
		}
		x.ack(d)
	}
}

// strangeHeaders: 31. Headers of all types that there are, and those of a dead
// letter, which are an array of tables.
func strangeHeaders(x *trial) {
	site := x.shared()
	client := site.connect("client")
	sub := x.subscribe(client, from("jobs", 1))
	ch := site.raw()
	many := amqp091.Table{}
	for i := range 1000 {
		many[fmt.Sprintf("h%d", i)] = int64(i)
	}
	deep := any("bottom")
	for range 10 {
		deep = amqp091.Table{"down": deep, "list": []any{int32(1), nil, deep}}
	}
	for i, headers := range []amqp091.Table{
		{"int": int32(7)},
		{"byte": byte(1), "short": int16(-2), "long": int64(1) << 60, "yes": true, "none": nil},
		{"float": float32(1.5), "double": 2.25, "time": time.Unix(1e9, 0), "bytes": []byte{0xff, 0}, "decimal": amqp091.Decimal{Scale: 2, Value: 314}},
		{"table": amqp091.Table{"a": int32(1), "b": []any{"c", int64(2)}}, "empty": amqp091.Table{}, "list": []any{}},
		{"x-death": "not what it should be"},
		{"x-death": []any{"nor", int32(1), amqp091.Table{"count": "many"}}},
		{"x-delivery-count": int64(99), "x-first-death-reason": int32(1), "_watermill_message_uuid": int32(5)},
		many,
		{"deep": deep},
		{"": "no name", "control\n": "\x00"},
	} {
		name := id("odd", i)
		site.send(ch, "jobs", name, amqp091.Publishing{Headers: headers})
		d := x.receive(sub)
		if d.Message.UUID != name || d.Attempt != 1 {
			x.errorf("got %q, attempt %d, want %q for the first time", d.Message.UUID, d.Attempt, name)
		}
		if want := "7"; i == 0 && d.Message.Metadata["int"] != want {
			x.errorf("an integer header came as %q, want %q", d.Message.Metadata["int"], want)
		}
		if len(headers) == len(many) && len(d.Message.Metadata) != len(many) {
			x.errorf("%d of %d headers came", len(d.Message.Metadata), len(many))
		}
		if i%2 == 0 { // again, with a number of deliveries that quorum queues add
			x.must(d.Settle(x.soon(), adapters.Requeue), "requeueing")
			if d = x.receive(sub); d.Message.UUID != name || !d.Redelivered {
				x.errorf("got %q, redelivered %v, want %q again", d.Message.UUID, d.Redelivered, name)
			}
		}
		x.ack(d)
	}

	// Round trip through a queue whose messages die.
	_, err := ch.QueueDeclare("doomed", true, false, false, false, amqp091.Table{
		"x-message-ttl": int32(1), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs",
	})
	x.must(err, "declaring")
	x.h.Add(history.Event{Op: history.Bind, Client: "raw", To: onQueue("doomed"), Queue: "doomed", Spec: adapters.QueueSpec{DeadLetter: "jobs"}})
	site.send(ch, "doomed", "died", amqp091.Publishing{})
	d := x.receive(sub)
	if got := d.Message.Metadata["x-death"]; d.Message.UUID != "died" || got != "doomed expired 1" {
		x.errorf("message %q has x-death %q", d.Message.UUID, got)
	}
	if err := client.Publish(x.soon(), toQueue("jobs"), d.Message); err != nil { // as it was received
		x.errorf("sending a dead letter again: %v", err)
	}
	x.ack(d)
	x.ack(x.receive(sub))
}
