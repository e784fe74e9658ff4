package otel_test

import (
	"context"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// BenchmarkMessage is a typed message in the process, from Send until it is settled: what an
// observed one costs beside one that is not.
func BenchmarkMessage(b *testing.B) {
	never := sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample()))
	always := sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	for _, c := range []struct {
		name string
		opts []patterns.BusOption
	}{
		{"bare", nil},
		{"no SDK", []patterns.BusOption{otel.Instrument()}},
		{"sampled out", []patterns.BusOption{otel.Instrument(otel.WithTracerProvider(never))}},
		{"metrics", []patterns.BusOption{otel.Instrument(otel.WithMeterProvider(meters))}},
		{"sampled out and metrics", []patterns.BusOption{otel.Instrument(otel.WithTracerProvider(never), otel.WithMeterProvider(meters))}},
		{"sampled", []patterns.BusOption{otel.Instrument(otel.WithTracerProvider(always))}},
	} {
		b.Run(c.name, func(b *testing.B) {
			broker := memory.New()
			defer broker.Close()
			bus := patterns.New(broker.Connect(), c.opts...)
			q := patterns.NewWorkQueue[order](bus, "orders")
			done := make(chan struct{})
			if _, err := q.Work(b.Context(), func(context.Context, order) error { done <- struct{}{}; return nil }); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := q.Send(b.Context(), order{"pad thai", 2}); err != nil {
					b.Fatal(err)
				}
				<-done
			}
			if err := bus.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

type order struct {
	Dish  string
	Count int
}
