package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// motifPublish sends to a work queue from one goroutine, window messages under
// way at most.
func motifPublish(kind amqp.QueueType, window, size int) Side {
	return withQueue(kind, func(ctx context.Context, r *Run, queue *patterns.WorkQueue[[]byte]) error {
		body := make([]byte, size)
		if err := r.Start(); err != nil {
			return err
		}
		err := pipelined(ctx, r.Messages, window, func(int) (*patterns.Receipt, error) { return queue.SendAsync(ctx, body) })
		r.Stop()
		return err
	})
}

// pipelined publishes n messages and waits for all outcomes, window messages
// under way at most.
func pipelined(ctx context.Context, n, window int, publish func(i int) (*patterns.Receipt, error)) (err error) {
	flying := make([]*patterns.Receipt, window)
	for i := range n + window {
		if receipt := flying[i%window]; receipt != nil {
			if err := receipt.Wait(ctx); err != nil {
				return err
			}
		}
		flying[i%window] = nil
		if i < n {
			if flying[i%window], err = publish(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// motifSend sends from several goroutines, each waiting for its message to be
// confirmed before it sends the next.
func motifSend(senders int) Side {
	return withQueue(amqp.Quorum, func(ctx context.Context, r *Run, queue *patterns.WorkQueue[[]byte]) error {
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		err := inParallel(senders, r, func(int) error { return queue.Send(ctx, body) })
		r.Stop()
		return err
	})
}

// inParallel does each of the run's messages once, by so many goroutines.
func inParallel(goroutines int, r *Run, do func(i int) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for range goroutines {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < r.Messages; i = int(next.Add(1)) - 1 {
				start := time.Now()
				if err := do(i); err != nil {
					return err
				}
				if r.Latencies != nil {
					r.Latencies[i] = time.Since(start)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// motifBatch sends batches, one after the other.
func motifBatch(size int) Side {
	return withQueue(amqp.Quorum, func(ctx context.Context, r *Run, queue *patterns.WorkQueue[[]byte]) error {
		batch := make([][]byte, size)
		for i := range batch {
			batch[i] = make([]byte, small)
		}
		if err := r.Start(); err != nil {
			return err
		}
		for sent := 0; sent < r.Messages; sent += size {
			if err := queue.SendBatch(ctx, batch[:min(size, r.Messages-sent)]); err != nil {
				return err
			}
		}
		r.Stop()
		return nil
	})
}

// withQueue has a work queue around what is measured.
func withQueue(kind amqp.QueueType, do func(context.Context, *Run, *patterns.WorkQueue[[]byte]) error) Side {
	return func(ctx context.Context, r *Run) error {
		driver, bus, err := openBus(ctx, r.URL, kind, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		queue := patterns.NewWorkQueue[[]byte](bus, r.Name)
		if err := queue.Declare(ctx); err != nil {
			return err
		}
		if err := queue.Send(ctx, nil); err != nil { // opens the channel
			return err
		}
		if err := do(ctx, r, queue); err != nil {
			return err
		}
		return deleteQueues(ctx, driver, r.Name, r.Name+".dead")
	}
}
