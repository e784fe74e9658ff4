package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type traceID struct{}

// Every message carries the trace that it was published in, and every publish is timed.
func ExampleOnPublish() {
	trace := func(ctx context.Context, p *patterns.Publishing) func(error) {
		if id, ok := ctx.Value(traceID{}).(string); ok {
			for i := range p.Len() { // several, of a batch
				p.SetHeader(i, "trace", id)
			}
		}
		return nil
	}
	measure := func(_ context.Context, p *patterns.Publishing) func(error) {
		start := time.Now()
		return func(err error) {
			outcome := "ok"
			if errors.Is(err, adapters.ErrNacked) {
				outcome = "refused"
			}
			_ = time.Since(start) // to a histogram
			fmt.Println(p.Cause, "to", p.To.Kind, p.To.Name+":", outcome)
		}
	}

	bus := patterns.New(memory.New().Connect(), patterns.OnPublish(trace, measure))
	defer bus.Close(context.Background())
	ctx := context.WithValue(context.Background(), traceID{}, "4bf92f35")
	orders := patterns.NewWorkQueue[string](bus, "orders", patterns.MaxLength(1))
	_ = orders.Send(ctx, "pad thai")
	_ = orders.Send(ctx, "ramen")
	if order, err := orders.TryGet(ctx); err == nil {
		fmt.Println(order.Value, "in trace", order.Headers["trace"])
		_ = order.Reject(ctx, errors.New("sold out"))
	}
	// Output:
	// publish to queue orders: ok
	// publish to queue orders: refused
	// pad thai in trace 4bf92f35
	// dead-letter to queue orders.dead: ok
}
