package interop

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// The tests of this file hold docs/wire.md to its words.

// TestTheDocumentsTestsExist looks for the tests that it names.
func TestTheDocumentsTestsExist(t *testing.T) {
	document, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, text...)
	}
	names := regexp.MustCompile(`\bTest\w+`).FindAll(document, -1)
	if len(names) < 10 {
		t.Fatalf("it names %d tests", len(names))
	}
	for _, name := range names {
		if !bytes.Contains(tests, []byte("func "+string(name)+"(t *testing.T)")) {
			t.Errorf("there is no test %s", name)
		}
	}
}

// TestQueueArguments declares each kind of queue with the arguments that the
// table of the document has: whoever is second finds that they agree.
func TestQueueArguments(t *testing.T) {
	const forever = 2147483647
	// mixed adds up arguments, in which QUEUE stands for the queue's name.
	mixed := func(more ...with) with {
		sum := with{}
		for _, m := range more {
			maps.Copy(sum, m)
		}
		return sum
	}
	quorum := with{"x-queue-type": "quorum", "x-delivery-limit": forever}
	classic := with{"x-queue-type": "classic"}
	toDead := with{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "QUEUE.dead"}
	safely := with{"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
	quorumToDead := mixed(quorum, toDead, safely)
	bounded := with{"x-max-length": 10, "x-overflow": "reject-publish"}
	dropping := with{"x-max-length": 10, "x-overflow": "drop-head"}

	url := amqptest.URL(t)
	p := newPeer(t, url)
	prioritized := mixed(classic, toDead, with{"x-max-priority": 5})
	if hasLevels(t, connect(t, url, "")) {
		prioritized = mixed(quorumToDead, with{"x-delivery-limit": forever - 5})
	}
	for _, c := range []struct {
		name      string
		queueType amqp.QueueType
		options   []patterns.QueueOption
		arguments with
	}{
		{"plain", "", nil, quorumToDead},
		{"no dead letters", "", []patterns.QueueOption{patterns.NoDeadLetter()}, quorum},
		{"bounded", "", []patterns.QueueOption{patterns.MaxLength(10)}, mixed(classic, toDead, bounded)},
		{"dropping", "", []patterns.QueueOption{patterns.MaxLength(10), patterns.DropOldest()}, mixed(quorum, toDead, dropping)},
		{"TTL", "", []patterns.QueueOption{patterns.MessageTTL(time.Minute)}, mixed(quorumToDead, with{"x-message-ttl": 60000})},
		{"priority", "", []patterns.QueueOption{patterns.MaxPriority(5)}, prioritized},
		{"classic priority", amqp.Classic, []patterns.QueueOption{patterns.MaxPriority(5)}, mixed(classic, toDead, with{"x-max-priority": 5})},
		{"quorum", amqp.Quorum, nil, quorumToDead},
		{"bounded quorum", amqp.Quorum, []patterns.QueueOption{patterns.MaxLength(10)}, mixed(quorumToDead, bounded)},
		{"classic", amqp.Classic, nil, mixed(classic, toDead)},
		{"classic, dropping", amqp.Classic, []patterns.QueueOption{patterns.MaxLength(10), patterns.DropOldest()}, mixed(classic, toDead, dropping)},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs := func(queue string, arguments with) {
				t.Helper()
				arguments = maps.Clone(arguments)
				if _, ok := arguments["x-dead-letter-routing-key"]; ok {
					arguments["x-dead-letter-routing-key"] = queue + ".dead"
				}
				p.do(t, "queue_declare", with{"queue": queue, "durable": true, "arguments": arguments})
			}
			dead := quorum
			if c.queueType == amqp.Classic {
				dead = classic
			}
			bus := patterns.New(connect(t, url, c.queueType))
			first, second := unique(t), unique(t)
			theirs(first, c.arguments)
			for _, queue := range []string{first, second} {
				var options []patterns.WorkQueueOption
				for _, o := range c.options {
					options = append(options, o)
				}
				if err := patterns.NewWorkQueue[order](bus, queue, options...).Declare(soon(t)); err != nil {
					t.Fatal(err)
				}
			}
			theirs(second, c.arguments)
			if _, has := c.arguments["x-dead-letter-exchange"]; has {
				theirs(second+".dead", dead)
			}
		})
	}

	t.Run("group", func(t *testing.T) {
		bus := patterns.New(connect(t, url, ""))
		exchange := unique(t)
		if err := patterns.NewTopic[order](bus, exchange).Declare(soon(t), []string{"usa.#"}, patterns.Group("g")); err != nil {
			t.Fatal(err)
		}
		arguments := maps.Clone(quorumToDead)
		arguments["x-dead-letter-routing-key"] = exchange + ":g.dead"
		p.do(t, "queue_declare", with{"queue": exchange + ":g", "durable": true, "arguments": arguments})
		p.do(t, "exchange_declare", with{"exchange": exchange, "exchange_type": "topic", "durable": true})
	})
	t.Run("RPC", func(t *testing.T) {
		bus := patterns.New(connect(t, url, ""))
		name := unique(t)
		if _, err := patterns.NewRPC[int, int](bus, name).Serve(t.Context(), func(context.Context, int) (int, error) { return 0, nil }); err != nil {
			t.Fatal(err)
		}
		p.do(t, "queue_declare", with{"queue": name, "durable": true, "auto_delete": true, "arguments": classic})
		p.do(t, "exchange_declare", with{"exchange": name + ".cancel", "exchange_type": "fanout", "durable": true})
	})
	t.Run("private", func(t *testing.T) {
		d := connect(t, url, "")
		for _, src := range []adapters.Source{{Endpoint: at(adapters.Fanout, unique(t))}, {Endpoint: at(adapters.Reply, "")}} {
			queue := subscribe(t, d, src).Address()
			err := p.begin("queue_declare", with{"queue": queue, "passive": true})(nil)
			if !strings.HasPrefix(queue, "amq.gen-") || err == nil || !strings.Contains(err.Error(), "405") {
				t.Errorf("a private queue is called %q, and used by others: %v", queue, err)
			}
		}
	})
}

// hasLevels reports whether quorum queues of the broker have priorities that are levels.
func hasLevels(t *testing.T, d *amqp.Driver) bool {
	t.Helper()
	if err := d.Do(t.Context(), func(*amqp091.Channel) error { return nil }); err != nil { // Health knows it now
		t.Fatal(err)
	}
	var major, minor int
	_, err := fmt.Sscanf(d.Health().Connections[0].Broker, "RabbitMQ %d.%d", &major, &minor)
	return err == nil && (major > 4 || major == 4 && minor >= 3)
}

// TestOnTheWire has pika look at what we send.
func TestOnTheWire(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	d := connect(t, url, "")
	queue, exchange := unique(t), unique(t)+".x"
	p.do(t, "queue_declare", with{"queue": queue, "durable": true})
	p.do(t, "exchange_declare", with{"exchange": exchange, "exchange_type": "topic", "durable": true})
	p.do(t, "queue_bind", with{"queue": queue, "exchange": exchange, "routing_key": "#"})

	m := message.NewMessage("7", []byte("body"))
	m.Metadata = message.Metadata{
		"plain": "a", "CC": "b", "BCC": "c", "x-death": "d", "motif-attempt": "e", "motif-metadata-x": "f", "motif-reason": "g", "cc": "h",
	}
	headers := map[string]any{
		"plain": "a", "motif-metadata-CC": "b", "motif-metadata-BCC": "c", "motif-metadata-x-death": "d",
		"motif-metadata-motif-attempt": "e", "motif-metadata-motif-metadata-x": "f", "motif-reason": "g", "cc": "h",
	}
	everything := adapters.Publication{
		To: at(adapters.Queue, queue), Key: "a.key", Properties: adapters.Properties{
			ContentType: "text/plain", CorrelationID: "c", ReplyTo: "r", Timestamp: time.Unix(1767323045, 0),
			Attempt: 3, TTL: time.Minute, Priority: 4, Transient: true,
		},
	}
	full := properties{
		ContentType: "text/plain", CorrelationID: "c", ReplyTo: "r", Timestamp: 1767323045, MessageID: "7",
		Expiration: "60000", Priority: 4, DeliveryMode: 1,
	}

	publish(t, d, everything, m)
	got, want := p.get(t, queue), full
	want.Headers = maps.Clone(headers)
	want.Headers["motif-attempt"], want.Headers["motif-key"] = "3", "a.key"
	if got.Exchange != "" || got.Key != queue || string(got.Body) != "body" || !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("to a queue: %+v\nwant %+v", got, want)
	}

	toExchange := everything
	toExchange.To, toExchange.Attempt, toExchange.Transient = at(adapters.Topic, exchange), 1, false
	publish(t, d, toExchange, m)
	got, want = p.get(t, queue), full
	want.Headers, want.DeliveryMode = headers, 2
	if got.Exchange != exchange || got.Key != "a.key" || !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("to an exchange: %+v\nwant %+v", got, want)
	}

	withoutKey := everything
	withoutKey.Key = ""
	for _, c := range []struct {
		publication adapters.Publication
		to          string
		exchange    string // it arrives from, and
		key         string // with
		header      string // has the publication's key
		steps       []string
	}{
		{everything, "queue." + queue, "", queue, "a.key", []string{"00", "01"}}, // 300 ms
		{toExchange, "exchange." + exchange, "motif.delay.out", "a.key", "", []string{"00", "01"}},
		{withoutKey, "queue." + queue, "motif.delay.queue." + queue, "", "", nil},
		{toExchange, "exchange." + exchange, "motif.delay.out", "a.key", "", nil},
	} {
		c.publication.Delay, c.publication.Attempt, c.publication.Transient = 250*time.Millisecond, 1, false
		deaths, want := len(c.steps)+1, full // the last one in the queue before the destination
		want.Headers, want.DeliveryMode, want.Expiration = maps.Clone(headers), 2, ""
		for _, step := range c.steps {
			want.Headers["motif-delay-"+step] = "1"
		}
		publish(t, d, c.publication, m)
		got := p.get(t, queue)
		for deadline := time.Now().Add(time.Minute); c.steps == nil && countDeaths(got) > 1 && time.Now().Before(deadline); { // until the queue for this delay is used
			publish(t, d, c.publication, m)
			got = p.get(t, queue)
		}
		want.Headers["motif-delay-to"], want.Headers["motif-ttl"] = c.to, "60000"
		want.Headers["motif-priority"], want.Priority = "4", 0 // it is to overtake nothing that waits
		if c.header != "" {
			want.Headers["motif-key"] = c.header
		}
		if n := countDeaths(got); n != deaths {
			t.Errorf("a delayed message has %d of %d x-death: %v", n, deaths, got.Properties.Headers["x-death"])
		}
		until, _ := got.Properties.Headers["motif-delay-until"].(string)
		if ms, err := strconv.ParseInt(until, 10, 64); err != nil || time.Since(time.UnixMilli(ms)).Abs() > time.Minute {
			t.Errorf("a delayed message until %q", until)
		}
		delete(got.Properties.Headers, "motif-delay-until")
		for name := range got.Properties.Headers {
			if strings.HasPrefix(name, "x-") {
				delete(got.Properties.Headers, name)
			}
		}
		if got.Exchange != c.exchange || got.Key != c.key || !reflect.DeepEqual(got.Properties, want) {
			t.Errorf("delayed to %s: %+v\nwant %+v", c.to, got, want)
		}
	}

	publish(t, d, adapters.Publication{To: at(adapters.Queue, queue)}, &message.Message{})
	got = p.get(t, queue)
	want = properties{DeliveryMode: 2, Timestamp: got.Properties.Timestamp}
	if len(got.Body) > 0 || !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("empty: %+v\nwant %+v", got, want)
	}

	publish(t, connect(t, url+forThem, ""), adapters.Publication{To: at(adapters.Queue, queue)}, message.NewMessage("8", nil))
	got = p.get(t, queue)
	want = properties{MessageID: "8", Headers: map[string]any{"_watermill_message_uuid": "8"}, DeliveryMode: 2, Timestamp: got.Properties.Timestamp}
	if !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("with watermill_uuid: %+v\nwant %+v", got, want)
	}
}

// countDeaths returns how many queues a message has died in.
func countDeaths(s seen) int {
	deaths, _ := s.Properties.Headers["x-death"].([]any)
	return len(deaths)
}

// TestFromTheWire has pika set what means something to us.
func TestFromTheWire(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	d := connect(t, url, "")
	queue := unique(t)
	sub := subscribe(t, d, adapters.Source{Endpoint: at(adapters.Queue, queue), Queue: adapters.QueueSpec{DeadLetter: queue + ".dead"}})
	p.publish(t, "", queue, "body", with{
		"content_type": "text/plain", "correlation_id": "c", "reply_to": "r", "timestamp": 1767323045, "message_id": "7",
		"expiration": "60000", "priority": 4, "delivery_mode": 2, "headers": with{
			"_watermill_message_uuid": "another", "motif-attempt": "3", "motif-key": "a.key", "plain": "a", "motif-metadata-CC": "b", "motif-reason": "g",
			"motif-priority": "9", "motif-again": "1",
		},
	})
	got := receive(t, sub)
	if uuid, metadata := got.Message.UUID, got.Message.Metadata; uuid != "7" || string(got.Message.Payload) != "body" ||
		!maps.Equal(metadata, message.Metadata{"plain": "a", "CC": "b", "motif-reason": "g"}) {
		t.Errorf("received %q %q %v", uuid, got.Message.Payload, metadata)
	}
	want := adapters.Properties{
		ContentType: "text/plain", CorrelationID: "c", ReplyTo: "r", Timestamp: time.Unix(1767323045, 0),
		Attempt: 3, TTL: time.Minute, Priority: 9,
	}
	if !got.Redelivered || got.Returned != 0 {
		t.Errorf("redelivered %v, returned %d times, of a message that was sent again", got.Redelivered, got.Returned)
	}
	if !got.Timestamp.Equal(want.Timestamp) {
		t.Errorf("timestamp %v", got.Timestamp)
	}
	if got.Foreign == nil {
		t.Error("nothing says that it was not published by Motif")
	}
	got.Foreign = nil
	if got.Timestamp = want.Timestamp; got.Properties != want || got.Key != "a.key" {
		t.Errorf("received %+v with key %q, want %+v", got.Properties, got.Key, want)
	}

	p.publish(t, "", queue, "", with{"headers": with{"_watermill_message_uuid": "8", "motif-attempt": "many"}})
	if got = receive(t, sub); got.Message.UUID != "8" || got.Attempt != 1 || !got.Transient || got.Redelivered {
		t.Errorf("received %q, %+v", got.Message.UUID, got)
	}

	// A dead letter of RabbitMQ's own says in a table where it died.
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	dead := subscribe(t, d, passive(queue+".dead"))
	p.publish(t, "", queue, "late", with{"expiration": "1"})
	deaths := message.Metadata{"x-death": queue + " expired 1", "x-first-death-reason": "expired", "x-first-death-queue": queue}
	if got = receive(t, dead); string(got.Message.Payload) != "late" || !maps.Equal(got.Message.Metadata, deaths) {
		t.Errorf("the dead letter is %q with %v, want %v", got.Message.Payload, got.Message.Metadata, deaths)
	}
}
