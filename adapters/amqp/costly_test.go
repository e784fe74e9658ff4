package amqp

import (
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/internal/rabbitmqtest"
)

// undisturbed checks that no connection of d was lost.
func undisturbed(t *testing.T, d *Driver) {
	t.Helper()
	for _, l := range d.Health().Links {
		if !l.Up || l.Generation != 1 {
			t.Errorf("a connection was lost: %+v", l)
		}
	}
}

// TestCostlyStream: a stream is refused when it is subscribed, or asked for a message, and no other use of the
// connection suffers.
func TestCostlyStream(t *testing.T) {
	v := rabbitmqtest.Shared(t)
	ch := foreignChannel(t, v.URL)
	if _, err := ch.QueueDeclare("stream", true, false, false, false, amqp091.Table{"x-queue-type": "stream"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("plain", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URL)
	bystander := subscribe(t, d, fromQueue("q", 1))
	stream, plain := fromQueue("stream", 1), fromQueue("plain", 1)
	stream.Passive, plain.Passive = true, true
	publish(t, d, mandatory("stream"), "a")
	for range 3 {
		_, err := d.Get(soon(t), stream)
		wantErr(t, "Get", err, adapters.ErrUnsupported)
		_, err = d.Subscribe(soon(t), stream)
		wantErr(t, "Subscribe", err, adapters.ErrUnsupported)
		if !strings.Contains(err.Error(), "rabbit_stream_queue") {
			t.Errorf("it does not say why: %v", err)
		}
		_, err = d.Get(soon(t), plain)
		wantErr(t, "Get from another", err, adapters.ErrEmpty)
	}
	publish(t, d, mandatory("plain"), "a", "b")
	m, err := d.Get(soon(t), plain)
	if err != nil || m.Message.UUID != "a" {
		t.Fatalf("%+v, %v", m, err)
	}
	settle(t, m, adapters.Ack)
	receiveAll(t, subscribe(t, d, plain), "b")
	publish(t, d, mandatory("q"), "c")
	receiveAll(t, bystander, "c")
	undisturbed(t, d)
}

// TestCostlyHeaders: a letter whose headers became larger than a frame, for what the broker has
// added, is got as it is received.
func TestCostlyHeaders(t *testing.T) {
	d := connect(t)
	q, dead := unique(t), unique(t)+".dead"
	src := fromQueue(q, 1)
	src.Queue.DeadLetter = dead
	sub := subscribe(t, d, src)
	large := strings.Repeat("x", 130_900)
	err := d.Do(ctx, func(ch *amqp091.Channel) error {
		for range 2 {
			if err := ch.Publish("", q, true, false, amqp091.Publishing{MessageId: "a", Headers: amqp091.Table{"large": large}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		settle(t, receive(t, sub, "a"), adapters.Reject)
	}
	letters := fromQueue(dead, 1)
	var m adapters.Delivery
	eventually(t, "the letter can be got", func() bool {
		m, err = d.Get(soon(t), letters)
		return err == nil
	})
	if m.Message.UUID != "a" || m.Message.Metadata["large"] != large || m.Message.Metadata["x-death"] == "" {
		t.Errorf("got %q", m.Message.UUID)
	}
	settle(t, m, adapters.Ack)
	m = receive(t, subscribe(t, d, letters), "a")
	if m.Message.Metadata["large"] != large {
		t.Error("it is not whole")
	}
	undisturbed(t, d)
}
