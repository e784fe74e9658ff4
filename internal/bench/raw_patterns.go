package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// rawTyped has a connection for publishing and one for consuming, as is
// recommended.
func rawTyped(_ context.Context, r *Run) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := declareRaw(ch, r.Name, quorum); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	consumer, deliveries, err := rawConsumer(r.URL, r.Name)
	if err != nil {
		return err
	}
	defer consumer.Close()
	v := newTicket()

	if err := r.Start(); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		for range r.Messages {
			m := <-deliveries
			var v ticket
			if err := json.Unmarshal(m.Body, &v); err != nil {
				return err
			}
			if err := m.Ack(false); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		return rawPipelined(r.Messages, window, func(i int) (*amqp091.DeferredConfirmation, error) {
			body, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			m := rawMessage(body, number(i))
			m.ContentType = "application/json"
			return ch.PublishWithDeferredConfirm("", r.Name, false, false, m)
		})
	})
	err = group.Wait()
	r.Stop()
	if err != nil {
		return err
	}
	_, err = ch.QueueDelete(r.Name, false, false, false)
	return err
}

// rawConsumer consumes a queue on a connection of its own.
func rawConsumer(url, queue string) (*amqp091.Connection, <-chan amqp091.Delivery, error) {
	conn, ch, err := dialRaw(url)
	if err != nil {
		return nil, nil, err
	}
	deliveries, err := rawConsume(ch, queue)
	if err != nil {
		_ = conn.Close()
	}
	return conn, deliveries, err
}

func rawConsume(ch *amqp091.Channel, queue string) (<-chan amqp091.Delivery, error) {
	if err := ch.Qos(window, 0, false); err != nil {
		return nil, err
	}
	return ch.Consume(queue, "", false, false, false, false, nil)
}

// rawFanout has a channel and a goroutine for each group's queue.
func rawFanout(groups int) Side {
	return func(_ context.Context, r *Run) error {
		conn, ch, err := dialRaw(r.URL)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := ch.Confirm(false); err != nil {
			return err
		}
		consumer, err := amqp091.Dial(r.URL)
		if err != nil {
			return err
		}
		defer consumer.Close()
		published := max(1, r.Messages/groups)
		r.Messages = published * groups
		queues := make([]<-chan amqp091.Delivery, groups)
		for g := range queues {
			ch, err := consumer.Channel()
			if err != nil {
				return err
			}
			if queues[g], err = rawConsume(ch, fmt.Sprintf("%s:g%d", fanoutName(groups), g)); err != nil {
				return err
			}
		}
		body := make([]byte, small)

		if err := r.Start(); err != nil {
			return err
		}
		var group errgroup.Group
		for _, deliveries := range queues {
			group.Go(func() error { return rawLoop(deliveries, published, 0) })
		}
		group.Go(func() error {
			return rawPipelined(published, window, func(i int) (*amqp091.DeferredConfirmation, error) {
				return ch.PublishWithDeferredConfirm(fanoutName(groups), "", false, false, rawMessage(body, number(i)))
			})
		})
		err = group.Wait()
		r.Stop()
		return err
	}
}

func rawTopic(_ context.Context, r *Run) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	body := make([]byte, small)
	if err := r.Start(); err != nil {
		return err
	}
	err = rawPipelined(r.Messages, window, func(i int) (*amqp091.DeferredConfirmation, error) {
		return ch.PublishWithDeferredConfirm(topicName, topicKey, false, false, rawMessage(body, number(i)))
	})
	r.Stop()
	if err != nil {
		return err
	}
	return purgeTopic(r.Messages)(ch)
}
