package main

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"
)

const watermillAMQP = "watermill-amqp"

// watermillConfig has confirms, a pool of channels, and the given prefetch.
func watermillConfig(url string, pool, prefetch int) wamqp.Config {
	c := wamqp.NewDurableQueueConfig(url)
	c.Publish.ConfirmDelivery = true
	c.Publish.ChannelPoolSize = pool
	c.Queue.Arguments = amqp091.Table{"x-queue-type": quorum}
	c.Consume.Qos.PrefetchCount = prefetch
	return c
}

// watermillSend publishes from several goroutines, with a channel for each.
func watermillSend(senders int) Side {
	return withRawQueue(quorum, func(r *Run, _ *amqp091.Channel) error {
		publisher, err := wamqp.NewPublisher(watermillConfig(r.URL, senders, 0), watermill.NopLogger{})
		if err != nil {
			return err
		}
		defer publisher.Close()
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		err = inParallel(senders, r, func(i int) error {
			return publisher.Publish(r.Name, message.NewMessage(number(i), body))
		})
		r.Stop()
		return err
	})
}

// watermillHandle runs a Router whose handler takes d, with so many handlers on
// the queue: each of them handles one message at a time.
func watermillHandle(handlers, prefetch int, d time.Duration) Side {
	return func(ctx context.Context, r *Run) error {
		return withBacklog(r, func() error {
			subscriber, err := wamqp.NewSubscriber(watermillConfig(r.URL, 0, prefetch), watermill.NopLogger{})
			if err != nil {
				return err
			}
			router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Second}, watermill.NopLogger{})
			if err != nil {
				return err
			}
			gate, done := make(chan struct{}), make(chan struct{})
			var handled atomic.Int64
			for i := range handlers {
				router.AddConsumerHandler("h"+strconv.Itoa(i), r.Name, subscriber, func(*message.Message) error {
					<-gate
					sleep(d)
					if handled.Add(1) == int64(r.Messages) {
						close(done)
					}
					return nil
				})
			}
			ended := make(chan error, 1)
			go func() { ended <- router.Run(ctx) }()
			<-router.Running()
			if err := r.Start(); err != nil {
				return err
			}
			close(gate)
			select {
			case <-done:
			case <-ctx.Done():
				return ctx.Err()
			}
			r.Stop()
			if err := router.Close(); err != nil {
				return err
			}
			return <-ended
		})
	}
}
