package otel_test

import (
	"context"
	"fmt"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// One option has everything traced. A handler's ctx has its message's span, for what it calls.
func ExampleInstrument() {
	spans := tracetest.NewInMemoryExporter() // a service has an OTLP exporter, and WithBatcher
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))

	bus := patterns.New(memory.New().Connect(), otel.Instrument(otel.WithTracerProvider(provider)))
	ctx := context.Background()
	orders := patterns.NewWorkQueue[string](bus, "orders")
	_ = orders.Send(ctx, "pad thai")
	cooked := make(chan struct{})
	_, _ = orders.Work(ctx, func(ctx context.Context, dish string) error {
		fmt.Println(dish, "is traced:", trace.SpanFromContext(ctx).IsRecording())
		close(cooked)
		return nil
	})
	<-cooked
	_ = bus.Close(ctx) // finishes what is in hand
	for _, s := range spans.GetSpans() {
		fmt.Println(s.SpanKind, s.Name)
	}
	// Output:
	// pad thai is traced: true
	// producer send orders
	// consumer process orders
	// client settle orders
}
