package memory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// What most tests need, in few words.

var ctx = context.Background()

func queueAt(name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: name}
}

func toQueue(name string) adapters.Publication {
	return adapters.Publication{To: queueAt(name)}
}

func fromQueue(name string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: queueAt(name), Prefetch: prefetch}
}

func msg(id string) *message.Message { return message.NewMessage(id, []byte("payload of "+id)) }

// connect makes a broker and a client, closed with the test.
func connect(t testing.TB) (*Broker, *Client) {
	b := New()
	t.Cleanup(b.Close)
	return b, b.Connect()
}

func subscribe(t testing.TB, c *Client, s adapters.Source) adapters.Subscription {
	t.Helper()
	sub, err := c.Subscribe(ctx, s)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	return sub
}

func declare(t testing.TB, c *Client, s adapters.Source) {
	t.Helper()
	if err := c.Declare(ctx, s); err != nil {
		t.Fatalf("Declare: %v", err)
	}
}

func publish(t testing.TB, c *Client, p adapters.Publication, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := c.Publish(ctx, p, msg(id)); err != nil {
			t.Fatalf("Publish %s: %v", id, err)
		}
	}
}

// receive returns the next message, which must have the id.
func receive(t testing.TB, sub adapters.Subscription, id string) adapters.Delivery {
	t.Helper()
	d, err := sub.Receive(soon(t))
	if err != nil {
		t.Fatalf("Receive: %v, want %s", err, id)
	}
	if d.Message.UUID != id {
		t.Fatalf("Receive: got %s, want %s", d.Message.UUID, id)
	}
	return d
}

// receiveAll settles the messages that come, which must have the ids.
func receiveAll(t testing.TB, sub adapters.Subscription, ids ...string) {
	t.Helper()
	for _, id := range ids {
		settle(t, receive(t, sub, id), adapters.Ack)
	}
}

// nothing checks that no message is there to be received. There is no need to
// wait: what is published is there at once.
func nothing(t testing.TB, sub adapters.Subscription) {
	t.Helper()
	c := sub.(*subscription).current.Load()
	if got, w := c.take(); w != nil {
		c.cancelWait(w)
	} else if got.entry != nil {
		t.Fatalf("received %s, want nothing", got.entry.uuid)
	}
}

// endpoint, to and from are for exchanges.
func endpoint(kind adapters.Kind) adapters.Endpoint {
	return adapters.Endpoint{Kind: kind, Name: "the-" + kind.String()}
}

func to(kind adapters.Kind, key string) adapters.Publication {
	return adapters.Publication{To: endpoint(kind), Key: key}
}

func from(kind adapters.Kind, group string, keys ...string) adapters.Source {
	return adapters.Source{Endpoint: endpoint(kind), Group: group, Keys: keys, Prefetch: 100}
}

func settle(t testing.TB, d adapters.Delivery, o adapters.Outcome) {
	t.Helper()
	if err := d.Settle(ctx, o); err != nil {
		t.Fatalf("Settle %s of %s: %v", o, d.Message.UUID, err)
	}
}

// soon bounds a wait for what must come.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

// wantQueue checks what a queue holds.
func wantQueue(t testing.TB, b *Broker, name string, ready, unacked, consumers int) {
	t.Helper()
	got, ok := b.Queue(name)
	if !ok {
		t.Fatalf("queue %s does not exist", name)
	}
	got.Bindings = 0
	if want := (QueueInfo{Ready: ready, Unacked: unacked, Consumers: consumers}); got != want {
		t.Fatalf("queue %s: %+v, want %+v", name, got, want)
	}
}

// numbered returns n ids.
func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	return ids
}

// failures returns which messages an error of Publish is about.
func failures(t testing.TB, err error) []adapters.FailedMessage {
	t.Helper()
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		t.Fatalf("no PublishError: %v", err)
	}
	return failed.Failed
}
