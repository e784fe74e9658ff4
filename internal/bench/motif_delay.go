package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// motifDelay sends messages with a delay to a handler.
func motifDelay(d time.Duration) Side {
	return func(ctx context.Context, r *Run) error {
		return motifWaiting(ctx, r, d, func(patterns.Delivery) error { return nil }, nil, patterns.Delay(d))
	}
}

var errFirst = errors.New("the first try fails")

// motifRetry sends messages to a handler that fails the first time.
func motifRetry(d time.Duration) Side {
	return func(ctx context.Context, r *Run) error {
		fail := func(v patterns.Delivery) error {
			if v.Attempt == 1 {
				return patterns.RetryAfter(d, errFirst)
			}
			return nil
		}
		return motifWaiting(ctx, r, d, fail, []patterns.BusOption{patterns.WithLogger(slog.New(slog.DiscardHandler))})
	}
}

func motifWaiting(ctx context.Context, r *Run, d time.Duration, handle func(patterns.Delivery) error, bopts []patterns.BusOption, opts ...patterns.PublishOption) error {
	driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{}, bopts...)
	if err != nil {
		return err
	}
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[[]byte](bus, r.Name)
	ready, handled := countDown(1), countDown(r.Messages)
	sub, err := queue.Work(ctx, func(ctx context.Context, _ []byte) error {
		d, _ := patterns.DeliveryFrom(ctx)
		err := handle(d)
		switch {
		case err != nil:
		case ready.left.Load() > 0:
			ready.one()
		default:
			handled.one()
		}
		return err
	}, patterns.Prefetch(window))
	if err != nil {
		return err
	}
	body := make([]byte, small)
	if err := queue.Send(ctx, body, opts...); err != nil { // declares what there is to declare
		return err
	}
	if d < time.Minute {
		err = ready.wait(ctx)
	} else {
		time.Sleep(2 * time.Second) // what is new is known by then; this one is the first to be handled, too
	}
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	err = pipelined(ctx, r.Messages, window, func(int) (*patterns.Receipt, error) { return queue.SendAsync(ctx, body, opts...) })
	if err == nil {
		err = handled.wait(ctx)
	}
	if err == nil {
		err = sub.Stop(ctx)
	}
	r.Stop()
	if err != nil {
		return err
	}
	return deleteQueues(ctx, driver, r.Name, r.Name+".dead")
}
