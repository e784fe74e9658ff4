package main

import (
	"context"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// withBacklog has a queue around what is measured in which all messages wait.
func withBacklog(r *Run, do func() error) error {
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
	body := make([]byte, small)
	err = rawPipelined(r.Messages, 1024, func(i int) (*amqp091.DeferredConfirmation, error) {
		return ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i)))
	})
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_, err = ch.QueueDelete(r.Name, false, false, false)
	return err
}

// rawHandle runs a handler that takes d in so many goroutines on one consumer,
// each of which acknowledges every message after it.
func rawHandle(goroutines, prefetch int, d time.Duration) Side {
	return func(_ context.Context, r *Run) error {
		return withBacklog(r, func() error {
			conn, ch, err := dialRaw(r.URL)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := ch.Qos(prefetch, 0, false); err != nil {
				return err
			}
			deliveries, err := ch.Consume(r.Name, "", false, false, false, false, nil)
			if err != nil {
				return err
			}
			if err := r.Start(); err != nil {
				return err
			}
			if goroutines == 1 {
				err = rawLoop(deliveries, r.Messages, d)
			} else {
				err = rawPool(deliveries, goroutines, r.Messages, d)
			}
			r.Stop()
			return err
		})
	}
}

func rawLoop(deliveries <-chan amqp091.Delivery, n int, d time.Duration) error {
	for range n {
		m := <-deliveries
		sleep(d)
		if err := m.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

func rawPool(deliveries <-chan amqp091.Delivery, goroutines, n int, d time.Duration) error {
	var group errgroup.Group
	share := func(g int) int { return n*(g+1)/goroutines - n*g/goroutines }
	for g := range goroutines {
		group.Go(func() error { return rawLoop(deliveries, share(g), d) })
	}
	return group.Wait()
}

// sleep is what a handler does that takes d.
func sleep(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}
