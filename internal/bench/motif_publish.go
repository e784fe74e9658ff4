package main

import (
	"context"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// motifPublish sends to a work queue from one goroutine, window messages under
// way at most.
func motifPublish(kind amqp.QueueType, window, size int) Side {
	return func(ctx context.Context, r *Run) error {
		driver, bus, err := openBus(ctx, r.URL, kind)
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		queue := patterns.NewWorkQueue[[]byte](bus, r.Name)
		if err := queue.Declare(ctx); err != nil {
			return err
		}
		body := make([]byte, size)

		if err := r.Start(); err != nil {
			return err
		}
		flying := make([]*patterns.Receipt, window)
		for i := range r.Messages + window {
			if receipt := flying[i%window]; receipt != nil {
				if err := receipt.Wait(ctx); err != nil {
					return err
				}
			}
			flying[i%window] = nil
			if i < r.Messages {
				if flying[i%window], err = queue.SendAsync(ctx, body); err != nil {
					return err
				}
			}
		}
		r.Stop()
		return deleteQueues(ctx, driver, r.Name)
	}
}
