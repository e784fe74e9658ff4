package memory

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

func TestRouting(t *testing.T) {
	for _, test := range []struct {
		kind  adapters.Kind
		keys  []string
		key   string
		match bool
	}{
		{adapters.Fanout, nil, "", true},
		{adapters.Direct, []string{"error"}, "error", true},
		{adapters.Direct, []string{"error"}, "Error", false},
		{adapters.Direct, []string{"error"}, "error.disk", false},
		{adapters.Direct, []string{"*"}, "error", false},
		{adapters.Direct, []string{"#"}, "error", false},
		{adapters.Direct, []string{"é"}, "e\u0301", false}, // bytes, not characters
		{adapters.Direct, []string{""}, "", true},
		{adapters.Topic, []string{"usa.#"}, "usa.weather", true},
		{adapters.Topic, []string{"usa.#"}, "usa", true},
		{adapters.Topic, []string{"usa.*"}, "usa", false},
		{adapters.Topic, []string{"*.weather"}, "usa.weather", true},
		{adapters.Topic, []string{"*.weather"}, "eu.usa.weather", false},
	} {
		t.Run(fmt.Sprintf("%s %q %q", test.kind, test.keys, test.key), func(t *testing.T) {
			_, c := connect(t)
			for _, group := range []string{"", "group"} {
				sub := subscribe(t, c, from(test.kind, group, test.keys...))
				publish(t, c, to(test.kind, test.key), "a")
				if test.match {
					d := receive(t, sub, "a")
					if d.Key != test.key {
						t.Errorf("key %q, want %q", d.Key, test.key)
					}
				} else {
					nothing(t, sub)
				}
				_ = sub.Stop()
			}
		})
	}
}

func TestOneCopyPerQueueHoweverManyBindingsMatch(t *testing.T) {
	_, c := connect(t)
	group := subscribe(t, c, from(adapters.Topic, "g", "usa.#", "#", "*.weather", "usa.weather", "usa.weather"))
	same := subscribe(t, c, from(adapters.Topic, "g", "#.weather"))
	other := subscribe(t, c, from(adapters.Topic, "h", "#"))
	private := subscribe(t, c, from(adapters.Topic, "", "#", "usa.*"))
	publish(t, c, to(adapters.Topic, "usa.weather"), "a")
	for _, sub := range []adapters.Subscription{group, other, private} {
		receive(t, sub, "a")
	}
	for _, sub := range []adapters.Subscription{group, same, other, private} {
		nothing(t, sub)
	}
}

func TestOneQueueBoundToTwoExchanges(t *testing.T) {
	b, c := connect(t)
	// The names are such that both groups' queue is "a:b".
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "a"}, Group: "b", Prefetch: 1}
	declare(t, c, s)
	declare(t, c, from(adapters.Direct, "", "key"))
	b.routes.mu.Lock()
	b.routes.bind(b.routes.queues["a:b"], binding{exchange: "the-direct", key: "key"})
	b.routes.mu.Unlock()
	publish(t, c, adapters.Publication{To: s.Endpoint}, "1")
	publish(t, c, to(adapters.Direct, "key"), "2")
	receiveAll(t, subscribe(t, c, fromQueue("a:b", 1)), "1", "2")
}

func TestBindingsAreASetAndUnbindTakesThemAway(t *testing.T) {
	for kind, keys := range map[adapters.Kind][]string{
		adapters.Fanout: {""}, adapters.Direct: {"x", "y"}, adapters.Topic: {"x.#", "y.#"},
	} {
		t.Run(kind.String(), func(t *testing.T) {
			b, c := connect(t)
			source := func(keys ...string) adapters.Source {
				if kind == adapters.Fanout {
					keys = nil
				}
				return from(kind, "g", keys...)
			}
			declare(t, c, source(keys...))
			declare(t, c, source(keys[0])) // a second time, but there is one
			sub := subscribe(t, c, source(keys[0]))
			key := strings.TrimSuffix(keys[0], ".#")
			publish(t, c, to(kind, key), "a")
			receive(t, sub, "a")

			for range 2 {
				if err := c.Unbind(ctx, source(keys[0])); err != nil {
					t.Fatalf("Unbind: %v", err)
				}
				publish(t, c, to(kind, key), "b")
				nothing(t, sub)
			}
			if info, _ := b.Queue(source().QueueName()); info.Bindings != len(keys)-1 {
				t.Errorf("%d bindings left, want %d", info.Bindings, len(keys)-1)
			}
			if len(keys) > 1 {
				publish(t, c, to(kind, strings.TrimSuffix(keys[1], ".#")), "c")
				receive(t, sub, "c")
			}
		})
	}
}

func TestUnbindOfNothing(t *testing.T) {
	_, c := connect(t)
	for name, s := range map[string]adapters.Source{
		"no exchange": from(adapters.Topic, "g", "#"),
		"queue":       fromQueue("q", 1),
	} {
		if err := c.Unbind(ctx, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantErr(t, "private", c.Unbind(ctx, from(adapters.Topic, "", "#")), adapters.ErrInvalid)
	if len(c.broker.routes.exchanges) > len(predeclared()) || len(c.broker.routes.queues) > 0 {
		t.Error("Unbind declared something")
	}
}

func TestUnroutable(t *testing.T) {
	_, c := connect(t)
	declare(t, c, from(adapters.Direct, "g", "bound"))
	for name, p := range map[string]adapters.Publication{
		"missing queue":  toQueue("none"),
		"no binding":     to(adapters.Direct, "unbound"),
		"new exchange":   to(adapters.Topic, "key"),
		"reply address":  {To: adapters.Endpoint{Kind: adapters.Reply, Name: replyPrefix + "gone"}},
		"queue as reply": {To: adapters.Endpoint{Kind: adapters.Reply, Name: "the-direct:g"}},
	} {
		t.Run(name, func(t *testing.T) {
			publish(t, c, p, "dropped")
			p.Mandatory = true
			err := c.Publish(ctx, p, msg("a"), msg("b"))
			wantErr(t, "Publish", err, adapters.ErrUnroutable)
			failed := failures(t, err)
			if len(failed) != 2 || failed[1].Index != 1 || failed[1].UUID != "b" {
				t.Errorf("failed: %+v", failed)
			}
			if err := c.Publish(ctx, p); err != nil {
				t.Errorf("publish of nothing: %v", err)
			}
		})
	}
	p := to(adapters.Direct, "bound")
	p.Mandatory = true
	publish(t, c, p, "a")
}

func TestPublishDeclaresExchangesButNotQueues(t *testing.T) {
	b, c := connect(t)
	publish(t, c, toQueue("q"), "a")
	publish(t, c, to(adapters.Fanout, ""), "a")
	if _, ok := b.Queue("q"); ok {
		t.Error("Publish declared a queue")
	}
	wantErr(t, "other kind", c.Publish(ctx, adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Topic, Name: "the-fanout"},
	}, msg("a")), adapters.ErrMismatch)
}

func TestOneBadMessageDoesNotStopTheOthers(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 2))
	long := msg(strings.Repeat("x", adapters.MaxNameBytes+1))
	err := c.Publish(ctx, toQueue("q"), msg("a"), nil, msg("c"), long)
	wantErr(t, "Publish", err, adapters.ErrInvalid)
	if failed := failures(t, err); len(failed) != 2 || failed[0].Index != 1 || failed[1].Index != 3 || failed[1].UUID != long.UUID {
		t.Errorf("failed: %+v", failed)
	}
	receiveAll(t, sub, "a", "c")
}

func TestPropertiesTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1))
		all := adapters.Properties{
			ContentType: "text/plain", CorrelationID: "c-1", ReplyTo: "amq.somewhere",
			Timestamp: time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC), Attempt: 3,
			TTL: time.Hour, Priority: 7, Transient: true,
		}
		p := toQueue("q")
		p.Properties, p.Key = all, "carried"
		m := msg("a")
		m.Metadata = message.Metadata{"k": "v", "": "é\x00"}
		if err := c.Publish(ctx, p, m); err != nil {
			t.Fatal(err)
		}
		d := receive(t, sub, "a")
		if d.Properties != all || d.Key != "carried" || !d.Message.Equals(m) {
			t.Errorf("got %+v %q %v", d.Properties, d.Key, d.Message)
		}
		settle(t, d, adapters.Ack)

		publish(t, c, toQueue("q"), "b")
		d = receive(t, sub, "b")
		if want := (adapters.Properties{Attempt: 1, Timestamp: d.Timestamp}); d.Properties != want {
			t.Errorf("got %+v, want %+v", d.Properties, want)
		}
		if !d.Timestamp.Equal(time.Now()) {
			t.Errorf("timestamp %v, want now", d.Timestamp)
		}
		d.Message.Metadata.Set("k", "v") // not nil, though there was none
	})
}

func TestPayloadsTravel(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	for _, payload := range [][]byte{nil, {}, {0}, []byte("\xff\x00\n"), make([]byte, 1<<20), {}, nil} { // the small after the large, in memory used again
		if err := c.Publish(ctx, toQueue("q"), message.NewMessage("a", payload)); err != nil {
			t.Fatal(err)
		}
		d := receive(t, sub, "a")
		if !bytes.Equal(d.Message.Payload, payload) {
			t.Errorf("sent %d bytes, got %d", len(payload), len(d.Message.Payload))
		}
		settle(t, d, adapters.Ack)
	}
}

func TestMessagesAreIsolated(t *testing.T) {
	_, c := connect(t)
	subs := []adapters.Subscription{
		subscribe(t, c, from(adapters.Fanout, "g")),
		subscribe(t, c, from(adapters.Fanout, "h")),
		subscribe(t, c, from(adapters.Fanout, "")),
		subscribe(t, c, fromQueue("q", 10)),
	}
	m := msg("a")
	m.Metadata.Set("k", "v")
	want := m.Copy()
	want.Payload = []byte(string(m.Payload))
	vandalize := func(m *message.Message) {
		m.UUID = "changed"
		m.Metadata.Set("k", "changed")
		m.Metadata.Set("new", "one")
		clear(m.Payload)
	}
	for _, p := range []adapters.Publication{to(adapters.Fanout, ""), toQueue("q")} {
		if err := c.Publish(ctx, p, m); err != nil {
			t.Fatal(err)
		}
	}
	vandalize(m)
	for range 3 { // and no redelivery sees what became of an earlier one
		for _, sub := range subs {
			d := receive(t, sub, "a")
			if !d.Message.Equals(want) {
				t.Errorf("received %q %v", d.Message.Payload, d.Message.Metadata)
			}
			vandalize(d.Message)
			settle(t, d, adapters.Requeue)
		}
	}
}

func TestAReceivedMessageOutlivesItsSettling(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	var kept []*message.Message
	for _, id := range numbered(100) {
		publish(t, c, toQueue("q"), id)
		d := receive(t, sub, id)
		settle(t, d, adapters.Ack)
		kept = append(kept, d.Message)
	}
	for i, id := range numbered(100) {
		if !kept[i].Equals(msg(id)) {
			t.Errorf("message %s became %s: %s", id, kept[i].UUID, kept[i].Payload)
		}
	}
}

func TestReplyAddressesArePrivateAndUnguessable(t *testing.T) {
	b, c := connect(t)
	reply := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 10}
	first, second := subscribe(t, c, reply), subscribe(t, c, reply)
	if a, b := first.Address(), second.Address(); a == b || !strings.HasPrefix(a, replyPrefix) || len(a) < len(replyPrefix)+26 {
		t.Errorf("addresses %q and %q", a, b)
	}
	answer := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: second.Address()}, Mandatory: true}
	publish(t, c, answer, "a")
	wantQueue(t, b, second.Address(), 0, 1, 1)
	receive(t, second, "a")
	nothing(t, first)
	_ = second.Stop()
	wantErr(t, "publish to a gone address", c.Publish(ctx, answer, msg("b")), adapters.ErrUnroutable)
	answer.Mandatory = false
	publish(t, c, answer, "c")
	wantErr(t, "Declare", c.Declare(ctx, adapters.Source{Endpoint: reply.Endpoint}), adapters.ErrInvalid)
}
