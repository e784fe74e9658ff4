package interop

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
)

// connect returns a driver that is closed with the test.
func connect(t *testing.T, url string, queueType amqp.QueueType) *amqp.Driver {
	t.Helper()
	cfg, err := amqp.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QueueType = queueType
	d, err := amqp.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// unique returns a name that no other test uses.
func unique(t *testing.T) string { return t.Name() + "." + rand.Text()[:8] }

// soon bounds a wait for what must come.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func at(kind adapters.Kind, name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: kind, Name: name}
}

// passive is the queue as it stands.
func passive(queue string) adapters.Source {
	return adapters.Source{Endpoint: at(adapters.Queue, queue), Passive: true}
}

func subscribe(t *testing.T, d adapters.Driver, s adapters.Source) adapters.Subscription {
	t.Helper()
	s.Prefetch = 10
	sub, err := d.Subscribe(soon(t), s)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	return sub
}

func publish(t *testing.T, d adapters.Driver, p adapters.Publication, msgs ...*message.Message) {
	t.Helper()
	if err := d.Publish(soon(t), p, msgs...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

// publishRaw publishes to a queue on somebody else's channel, and waits until the broker has it.
func publishRaw(t *testing.T, url, queue string, messages ...amqp091.Publishing) {
	t.Helper()
	conn, err := amqp091.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := confirm.WaitContext(soon(t)); !ok || err != nil {
			t.Fatalf("not confirmed: %v", err)
		}
	}
}

// receive returns the next message, acknowledged.
func receive(t *testing.T, sub adapters.Subscription) adapters.Delivery {
	t.Helper()
	d, err := sub.Receive(soon(t))
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	if err := d.Settle(t.Context(), adapters.Ack); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	return d
}

// nothing checks that no message comes for a while.
func nothing(t *testing.T, sub adapters.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if d, err := sub.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("received %+v, %v, want nothing", d.Message, err)
	}
}

// same checks that a message came as it was sent.
func same(t *testing.T, got, want *message.Message) {
	t.Helper()
	if got.UUID != want.UUID || string(got.Payload) != string(want.Payload) || !maps.Equal(got.Metadata, want.Metadata) {
		t.Errorf("got %q %q %v,\nwant %q %q %v", got.UUID, got.Payload, got.Metadata, want.UUID, want.Payload, want.Metadata)
	}
}
