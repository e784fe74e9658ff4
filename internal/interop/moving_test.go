package interop

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/patterns"
)

// The programs of docs/moving.md: how others say it, and how it is said here. They are compiled.

type Order struct{ Dish string }

func ship(context.Context, Order) error { return nil }

var errNotConfirmed = errors.New("not confirmed")

func Example_moving() {
	_ = []any{publishWithAMQP091, publishWithMotif, consumeWithAMQP091, workWithMotif, handleWithWatermill, workOnTheirQueue}
}

func publishWithAMQP091(ctx context.Context, url string, order Order) error {
	conn, err := amqp091.Dial(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare("orders", true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
		return err
	}
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", "orders", true, false, amqp091.Publishing{
		ContentType: "application/json", DeliveryMode: amqp091.Persistent, Body: body,
	})
	if err != nil {
		return err
	}
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		return errors.Join(err, errNotConfirmed)
	}
	return nil
}

func publishWithMotif(ctx context.Context, url string, order Order) error {
	bus, err := patterns.Open(ctx, url)
	if err != nil {
		return err
	}
	defer bus.Close(context.Background())
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	if err := orders.Send(ctx, order); err != nil {
		return err
	}
	return nil
}

func consumeWithAMQP091(ctx context.Context, ch *amqp091.Channel) error {
	if err := ch.Qos(8, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, "orders", "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for d := range deliveries {
		var o Order
		if err := json.Unmarshal(d.Body, &o); err != nil {
			_ = d.Reject(false) // lost, unless the queue has a dead-letter exchange
			continue
		}
		if err := ship(ctx, o); err != nil {
			_ = d.Nack(false, true) // again at once, for as long as it fails
			continue
		}
		_ = d.Ack(false)
	}
	return errors.New("the connection is gone")
}

func workWithMotif(ctx context.Context, orders *patterns.WorkQueue[Order]) error {
	sub, err := orders.Work(ctx, ship, patterns.Workers(8))
	if err != nil {
		return err
	}
	return sub.Wait()
}

func handleWithWatermill(ctx context.Context, url string, logger wm.LoggerAdapter) error {
	subscriber, err := wmamqp.NewSubscriber(wmamqp.NewDurableQueueConfig(url), logger)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddMiddleware(middleware.Retry{MaxRetries: 5, InitialInterval: time.Second, Logger: logger}.Middleware)
	router.AddConsumerHandler("ship", "orders", subscriber, func(m *message.Message) error {
		var o Order
		if err := json.Unmarshal(m.Payload, &o); err != nil {
			return err // a nack: it comes again at once
		}
		return ship(m.Context(), o)
	})
	return router.Run(ctx)
}

func workOnTheirQueue(ctx context.Context, bus *patterns.Bus) error {
	orders := patterns.NewWorkQueue[Order](bus, "orders", patterns.Passive()) // their queue has other arguments
	sub, err := orders.Work(ctx, ship)
	if err != nil {
		return err
	}
	return sub.Wait()
}
