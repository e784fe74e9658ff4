package watermill_test

import (
	"errors"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestRouter runs a router with watermill's own middleware: orders that fail
// or panic at first become invoices in the end, each once.
func TestRouter(t *testing.T) {
	broker := memory.New()
	t.Cleanup(broker.Close)
	client := broker.Connect()
	sub := watermill.NewSubscriber(client, watermill.SubscriberConfig{From: watermill.FromQueue, Prefetch: 4})
	pub := watermill.NewPublisher(client, watermill.ToQueue)
	for _, topic := range []string{"orders", "invoices"} {
		if err := sub.SubscribeInitialize(topic); err != nil {
			t.Fatal(err)
		}
	}

	router, err := message.NewRouter(message.RouterConfig{}, wm.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	router.AddMiddleware(middleware.Retry{MaxRetries: 2, InitialInterval: time.Microsecond}.Middleware, middleware.Recoverer)
	tries := make(chan string, 100)
	failed := map[string]int{} // the orders come one by one, for each waits for the one before
	router.AddHandler("bill", "orders", sub, "invoices", pub, func(m *message.Message) ([]*message.Message, error) {
		tries <- m.UUID
		switch failed[m.UUID]++; {
		case m.UUID == "b" && failed["b"] == 1:
			return nil, errors.New("no ink")
		case m.UUID == "c" && failed["c"] <= 4: // beyond what is retried: nacked, and comes again
			panic("paper jam")
		}
		return []*message.Message{message.NewMessage("invoice "+m.UUID, m.Payload)}, nil
	})
	invoices := make(chan string)
	router.AddConsumerHandler("file", "invoices", sub, func(m *message.Message) error {
		invoices <- m.UUID
		return nil
	})
	ran := make(chan error)
	go func() { ran <- router.Run(t.Context()) }()
	<-router.Running()

	for _, order := range []string{"a", "b", "c"} {
		if err := pub.Publish("orders", messages(order)...); err != nil {
			t.Fatal(err)
		}
		if got := <-invoices; got != "invoice "+order {
			t.Errorf("got %q for order %s", got, order)
		}
	}
	if n := len(tries); n != 1+2+5 {
		t.Errorf("%d attempts, want 8", n)
	}
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := sub.Close(); err != nil { // returns once all is settled
		t.Error(err)
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"orders", "invoices"} {
		if info, ok := broker.Queue(topic); !ok || info.Ready > 0 || info.Unacked > 0 {
			t.Errorf("left in %s: %+v, %t", topic, info, ok)
		}
	}
}
