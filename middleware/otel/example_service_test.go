package otel_test

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	motifotel "github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// A service sets up OpenTelemetry, and gives its bus the option.
func ExampleInstrument_service() {
	// Other instrumentations, as that of HTTP, take what is global, too.
	setUp := func(ctx context.Context, exporter sdktrace.SpanExporter) (end func() error) {
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
		otel.SetTracerProvider(provider)
		otel.SetTextMapPropagator(propagation.TraceContext{})
		return func() error { return provider.Shutdown(context.WithoutCancel(ctx)) }
	}
	run := func(ctx context.Context, url string, exporter sdktrace.SpanExporter) error {
		end := setUp(ctx, exporter)
		bus, err := patterns.Open(ctx, url, motifotel.Instrument())
		if err != nil {
			return errors.Join(err, end())
		}
		<-ctx.Done()
		return errors.Join(bus.Close(context.WithoutCancel(ctx)), end()) // the last messages, then the last spans
	}
	_ = run
}
