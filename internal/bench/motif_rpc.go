package main

import (
	"context"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// motifCall has a server that replies at once, and callers in several
// goroutines, each on its own bus.
func motifCall(callers int) Side {
	return func(ctx context.Context, r *Run) error {
		_, serving, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer serving.Close(ctx)
		echo := func(_ context.Context, body []byte) ([]byte, error) { return body, nil }
		server := patterns.NewRPC[[]byte, []byte](serving, r.Name)
		if _, err := server.Serve(ctx, echo, patterns.Workers(min(callers, 64)), patterns.Prefetch(window)); err != nil {
			return err
		}
		_, calling, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer calling.Close(ctx)
		call := patterns.NewRPC[[]byte, []byte](calling, r.Name)
		body := make([]byte, small)
		if _, err := call.Call(ctx, body); err != nil { // opens the channels
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		err = inParallel(callers, r, func(int) error {
			_, err := call.Call(ctx, body)
			return err
		})
		r.Stop()
		return err
	}
}
