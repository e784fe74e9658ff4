package main

import (
	"context"
	"fmt"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// ordered is what it costs to keep the order of each key: 64 workers on what waits of 1,000 keys.
func ordered() []Workload {
	return []Workload{{
		Name: "order/by key, 64 workers", Baseline: "the same, in no order", Target: Target{Rate: 0.9},
		Ours: handleKeys(patterns.OrderBy(func(key string) string { return key })), Theirs: handleKeys(),
	}}
}

func handleKeys(opts ...patterns.WorkOption) Side {
	return func(ctx context.Context, r *Run) error {
		driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.JSON{})
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		queue := patterns.NewWorkQueue[string](bus, r.Name)
		if err := queue.Declare(ctx); err != nil {
			return err
		}
		send := func(i int) (*patterns.Receipt, error) { return queue.SendAsync(ctx, fmt.Sprint("key", i%1000)) }
		if err := pipelined(ctx, r.Messages, window, send); err != nil {
			return err
		}
		handled := countDown(r.Messages)
		handle := func(context.Context, string) error { handled.one(); return nil }
		if err := r.Start(); err != nil {
			return err
		}
		sub, err := queue.Work(ctx, handle, append(opts, patterns.Workers(64), patterns.Prefetch(window))...)
		if err != nil {
			return err
		}
		if err = handled.wait(ctx); err == nil {
			err = sub.Stop(ctx)
		}
		r.Stop()
		if err != nil {
			return err
		}
		return deleteQueues(ctx, driver, r.Name, r.Name+".dead")
	}
}
