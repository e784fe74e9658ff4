package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
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

// Work queues that many subscribe to.
const sharedQueues = 100

func sharedQueue(i int) string { return fmt.Sprint("bench-shared", i%sharedQueues) }

// prepareWork declares them.
func prepareWork(_ context.Context, url string) (func() error, error) {
	conn, ch, err := dialRaw(url)
	if err != nil {
		return nil, err
	}
	for i := range sharedQueues {
		if err := declareRawWithDead(ch, sharedQueue(i)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return func() error {
		defer conn.Close()
		for i := range sharedQueues {
			for _, queue := range []string{sharedQueue(i), sharedQueue(i) + ".dead"} {
				if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

// motifWorkers work on the shared queues.
type motifWorkers struct {
	bus  *patterns.Bus
	next atomic.Int64
}

func openMotifWork(ctx context.Context, url, _ string) (subscriber, error) {
	_, bus, err := openBus(ctx, url, amqp.Quorum, patterns.Bytes{})
	return &motifWorkers{bus: bus}, err
}

func (s *motifWorkers) subscribe(ctx context.Context, got func([]byte)) error {
	queue := patterns.NewWorkQueue[[]byte](s.bus, sharedQueue(int(s.next.Add(1))))
	_, err := queue.Work(ctx, func(_ context.Context, body []byte) error { got(body); return nil })
	return err
}

func (s *motifWorkers) close(ctx context.Context) error { return s.bus.Close(ctx) }

func openRawWork(atOnce int) opener {
	return func(ctx context.Context, url, exchange string) (subscriber, error) {
		s, err := openRaw(atOnce)(ctx, url, exchange)
		if err != nil {
			return nil, err
		}
		raw := s.(*rawSubscriber)
		raw.exclusive = false
		raw.declare = func(ch *amqp091.Channel, i int) (string, error) {
			return sharedQueue(i), declareRawWithDead(ch, sharedQueue(i))
		}
		return raw, nil
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
