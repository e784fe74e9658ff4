package main

import (
	"context"
	"errors"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// declareRawWithDead declares a queue and one for its dead letters, with the arguments that Motif's
// have: nothing is lost on the way to the dead letters, and no broker's own limit comes before.
func declareRawWithDead(ch *amqp091.Channel, queue string) error {
	const never = 1<<31 - 1
	args := amqp091.Table{"x-queue-type": quorum, "x-delivery-limit": int64(never)}
	if _, err := ch.QueueDeclare(queue+".dead", true, false, false, false, args); err != nil {
		return err
	}
	_, err := ch.QueueDeclare(queue, true, false, false, false, amqp091.Table{
		"x-queue-type": quorum, "x-delivery-limit": int64(never), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dead",
		"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
	})
	return err
}

// rawDeclare declares a service on so many channels.
func rawDeclare(channels int, exists bool) Side {
	return func(_ context.Context, r *Run) error {
		conn, err := amqp091.Dial(r.URL)
		if err != nil {
			return err
		}
		defer conn.Close()
		if exists {
			if err := declareServiceAt(r); err != nil {
				return err
			}
		}
		if err := r.Start(); err != nil {
			return err
		}
		err = declareService(conn, r.Name, channels)
		r.Stop()
		return errors.Join(err, deleteService(r))
	}
}

// declareServiceAt declares a service over a connection of its own.
func declareServiceAt(r *Run) error {
	conn, err := amqp091.Dial(r.URL)
	if err != nil {
		return err
	}
	return errors.Join(declareService(conn, r.Name, 1), conn.Close())
}

func declareService(conn *amqp091.Connection, run string, channels int) error {
	all := make(chan func(*amqp091.Channel) error, declaredQueues+declaredGroups)
	for i := range declaredQueues {
		all <- func(ch *amqp091.Channel) error { return declareRawWithDead(ch, workName(run, i)) }
	}
	for i := range declaredGroups {
		all <- func(ch *amqp091.Channel) error {
			exchange := exchangeName(run, i)
			if err := ch.ExchangeDeclare(exchange, amqp091.ExchangeFanout, true, false, false, false, nil); err != nil {
				return err
			}
			if err := declareRawWithDead(ch, exchange+":g"); err != nil {
				return err
			}
			return ch.QueueBind(exchange+":g", "", exchange, false, nil)
		}
	}
	close(all)
	var group errgroup.Group
	for range channels {
		group.Go(func() error {
			ch, err := conn.Channel()
			if err != nil {
				return err
			}
			for declare := range all {
				if err := declare(ch); err != nil {
					return err
				}
			}
			return ch.Close()
		})
	}
	return group.Wait()
}

// deleteService cleans up.
func deleteService(r *Run) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	var queues []string
	for i := range declaredQueues {
		queues = append(queues, workName(r.Name, i))
	}
	for i := range declaredGroups {
		queues = append(queues, exchangeName(r.Name, i)+":g")
		if err := ch.ExchangeDelete(exchangeName(r.Name, i), false, false); err != nil {
			return err
		}
	}
	for _, queue := range queues {
		for _, name := range []string{queue, queue + ".dead"} {
			if _, err := ch.QueueDelete(name, false, false, false); err != nil {
				return err
			}
		}
	}
	return nil
}

const startQueue = "bench-start"

func startName(r *Run, isNew bool) string {
	if isNew {
		return r.Name
	}
	return startQueue
}

// afterStart cleans up, or leaves a message for the next that starts.
func afterStart(r *Run, isNew, waits bool) error {
	switch {
	case isNew:
		return errors.Join(deleteRaw(r.URL, r.Name), deleteRaw(r.URL, r.Name+".dead"))
	case waits:
		return leaveOne(r.URL, startQueue)
	}
	return nil
}

// leaveOne leaves a message in a queue.
func leaveOne(url, queue string) error {
	conn, ch, err := dialRaw(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	return sendRaw(ch, queue)
}

// sendRaw sends a message, and waits for its confirm.
func sendRaw(ch *amqp091.Channel, queue string) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirm("", queue, false, false, rawMessage(make([]byte, small), number(1)))
	if err == nil && !confirm.Wait() {
		err = errNotConfirmed
	}
	return err
}

// rawStart is all that a process does until it has handled its first message.
func rawStart(isNew, waits bool) Side {
	return func(_ context.Context, r *Run) error {
		if err := r.StartWithProcess(); err != nil {
			return err
		}
		name := startName(r, isNew)
		publishing, publisher, err := dialRaw(r.URL)
		if err != nil {
			return err
		}
		defer publishing.Close()
		consuming, consumer, err := dialRaw(r.URL)
		if err != nil {
			return err
		}
		defer consuming.Close()
		if err := declareRawWithDead(consumer, name); err != nil {
			return err
		}
		deliveries, err := rawConsume(consumer, name)
		if err != nil {
			return err
		}
		if !waits {
			if err := sendRaw(publisher, name); err != nil {
				return err
			}
		}
		if err := rawLoop(deliveries, 1, 0); err != nil {
			return err
		}
		r.Stop()
		return errors.Join(consuming.Close(), afterStart(r, isNew, waits))
	}
}
