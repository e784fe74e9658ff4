package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// motifHandle runs a handler that takes d in so many workers.
func motifHandle(workers, prefetch int, d time.Duration, opts ...patterns.WorkOption) Side {
	return func(ctx context.Context, r *Run) error {
		return withBacklog(r, func() error {
			_, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
			if err != nil {
				return err
			}
			defer bus.Close(ctx)
			queue := patterns.NewWorkQueue[[]byte](bus, r.Name, patterns.Passive())
			gate, done := make(chan struct{}), make(chan struct{})
			var handled atomic.Int64
			handler := func(context.Context, []byte) error {
				<-gate
				sleep(d)
				if handled.Add(1) == int64(r.Messages) {
					close(done)
				}
				return nil
			}
			opts := append([]patterns.WorkOption{patterns.Workers(workers), patterns.Prefetch(prefetch)}, opts...)
			sub, err := queue.Work(ctx, handler, opts...)
			if err != nil {
				return err
			}
			if err := r.Start(); err != nil {
				return err
			}
			close(gate)
			select {
			case <-done:
			case <-ctx.Done():
				return ctx.Err()
			}
			err = sub.Stop(ctx) // the last acknowledgements have left, too
			r.Stop()
			return err
		})
	}
}
