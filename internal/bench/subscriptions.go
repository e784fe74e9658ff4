package main

import (
	"context"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// opener connects someone who can subscribe.
type opener func(ctx context.Context, url, exchange string) (subscriber, error)

// subscribeMany has an exchange, and the run's number of subscriptions to it, around what is
// measured.
func subscribeMany(ctx context.Context, r *Run, url string, open opener, do func() error) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.ExchangeDeclare(r.Name, amqp091.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	s, err := open(ctx, url, r.Name)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(8)
	for range r.Messages {
		group.Go(func() error { return s.subscribe(ctx, func([]byte) {}) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := s.close(ctx); err != nil {
		return err
	}
	return ch.ExchangeDelete(r.Name, false, false)
}

// backAfterACut measures from the moment in which the connections are cut until the broker has
// answered each subscription that it consumes.
func backAfterACut(open opener) Side {
	return func(ctx context.Context, r *Run) error {
		tap, url, err := newTap(ctx, r.URL)
		if err != nil {
			return err
		}
		defer tap.close()
		return subscribeMany(ctx, r, url, open, func() error {
			back := tap.awaitConsumers(r.Messages)
			if err := r.Start(); err != nil {
				return err
			}
			tap.cut()
			err := back.wait(ctx)
			r.Stop()
			return err
		})
	}
}

const idleTime = 5 * time.Second

// idle measures what subscriptions cost to which nothing comes.
func idle(open opener) Side {
	return func(ctx context.Context, r *Run) error {
		return subscribeMany(ctx, r, r.URL, open, func() error {
			r.Idle = true
			if err := r.Start(); err != nil {
				return err
			}
			time.Sleep(idleTime)
			r.Stop()
			return nil
		})
	}
}
