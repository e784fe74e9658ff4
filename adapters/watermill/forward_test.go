package watermill_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestForwardedMessagesKeepTheirProperties: what is published as it came goes on with all that it
// came with; what was made of it, by another payload or under another id, does not.
func TestForwardedMessagesKeepTheirProperties(t *testing.T) {
	broker := memory.New()
	t.Cleanup(broker.Close)
	client := broker.Connect()
	sub := watermill.NewSubscriber(client, watermill.SubscriberConfig{From: watermill.FromQueue, Prefetch: 10})
	pub := watermill.NewPublisher(client, func(topic string) adapters.Publication {
		p := watermill.ToQueue(topic)
		p.AppID = "forwarder"
		return p
	})
	in, err := sub.Subscribe(t.Context(), "in")
	if err != nil {
		t.Fatal(err)
	}
	out, err := sub.Subscribe(t.Context(), "out")
	if err != nil {
		t.Fatal(err)
	}
	full := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "in"}, Key: "a.key", Properties: adapters.Properties{
		ContentType: "text/plain", ContentEncoding: "gzip", Type: "an-order", AppID: "till", CorrelationID: "c", ReplyTo: "r", Attempt: 3,
		Timestamp: time.Unix(1700000000, 0), TTL: time.Hour, Priority: 4, Transient: true, Foreign: "as it came",
	}}
	if err := client.Publish(t.Context(), full, messages("m")...); err != nil {
		t.Fatal(err)
	}
	m := <-in
	another := message.NewMessage("another", m.Payload)
	another.SetContext(m.Context())
	changed := message.NewMessage(m.UUID, []byte("another payload"))
	changed.SetContext(m.Context())
	if err := pub.Publish("out", another, m, changed); err != nil {
		t.Fatal(err)
	}
	m.Ack()
	want := full.Properties
	want.AppID, want.Attempt = "forwarder", 1
	for i, name := range []string{"another", "the message", "another payload"} {
		m := <-out
		got, _ := watermill.DeliveryFrom(m.Context())
		if kept := got.Properties == want && got.Key == "a.key"; kept != (i == 1) {
			t.Errorf("%s goes on with %+v, key %q; it came with %+v", name, got.Properties, got.Key, want)
		}
		if got.AppID != "forwarder" {
			t.Errorf("%s goes on with the app id %q", name, got.AppID)
		}
		m.Ack()
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
