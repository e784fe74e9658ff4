package memory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
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

// nothing checks that no message is there to be received.
func nothing(t testing.TB, sub adapters.Subscription) {
	t.Helper()
	// What is published is there at once, so there is no need to wait.
	s := sub.(*subscription)
	if got, w := s.current.Load().take(); w != nil {
		s.current.Load().leave(w)
	} else if got.entry != nil {
		t.Fatalf("received %s, want nothing", got.entry.uuid)
	}
}

func settle(t testing.TB, d adapters.Delivery, o adapters.Outcome) {
	t.Helper()
	if err := d.Settle(ctx, o); err != nil {
		t.Fatalf("Settle %s of %s: %v", o, d.Message.UUID, err)
	}
}

// soon bounds a wait for what must come.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
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

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func ids(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return ids
}

func TestSmoke(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("orders", 1))
	publish(t, c, toQueue("orders"), "a", "b")
	d := receive(t, sub, "a")
	nothing(t, sub)
	settle(t, d, adapters.Requeue)
	if d = receive(t, sub, "a"); !d.Redelivered {
		t.Error("not marked redelivered")
	}
	b.Cut()
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	receiveAll(t, sub, "a", "b")
	wantQueue(t, b, "orders", 0, 0, 1)
}
