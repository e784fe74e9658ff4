package watermill_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/patterns"
)

// A watermill router on a Motif adapter: here the in-process broker, and
// RabbitMQ with the driver that adapters.Open returns for an amqp URL.
func ExampleNewSubscriber() {
	driver := memory.New().Connect()
	sub := watermill.NewSubscriber(driver, watermill.SubscriberConfig{From: watermill.FromGroup("billing")})
	pub := watermill.NewPublisher(driver, watermill.ToFanout)

	router := message.NewDefaultRouter(nil)
	billed := make(chan string)
	router.AddConsumerHandler("bill", "order-placed", sub, func(m *message.Message) error {
		billed <- string(m.Payload)
		return nil
	})
	ran := make(chan error)
	go func() { ran <- router.Run(context.Background()) }()
	<-router.Running()

	err := pub.Publish("order-placed", message.NewMessage("1", []byte("two books")))
	fmt.Println("published:", err)
	fmt.Println("billed:", <-billed)

	// In this order: sub.Close returns once all that was acked is settled.
	err = errors.Join(router.Close(), <-ran, sub.Close(), driver.Close(context.Background()))
	fmt.Println("closed:", err)
	// Output:
	// published: <nil>
	// billed: two books
	// closed: <nil>
}

// Motif's patterns on a watermill Pub/Sub.
func ExampleNewDriver() {
	ctx := context.Background()
	pair := gochannel.NewGoChannel(gochannel.Config{}, nil)
	driver, err := watermill.NewDriver(watermill.Config{
		Adapter: "gochannel", Publisher: pair, Subscriber: pair,
		Fanout: pair, // for its subscriptions each get a copy
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	bus := patterns.New(driver)

	shipped := make(chan string)
	orders := patterns.NewWorkQueue[string](bus, "orders", patterns.NoDeadLetter())
	ship := func(_ context.Context, order string) error {
		shipped <- order
		return nil
	}
	_, err = orders.Work(ctx, ship)
	fmt.Println("with the default retry:", err)
	_, err = orders.Work(ctx, ship, patterns.Retry(patterns.RetryPolicy{InProcess: true}))
	fmt.Println("with retry in process:", err)

	fmt.Println("sent:", orders.Send(ctx, "two books"))
	fmt.Println("shipped:", <-shipped)
	fmt.Println("closed:", bus.Close(ctx))
	// Output:
	// with the default retry: work on work queue "orders": motif: adapter gochannel does not support delay
	// with retry in process: <nil>
	// sent: <nil>
	// shipped: two books
	// closed: <nil>
}
