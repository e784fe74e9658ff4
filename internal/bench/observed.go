package main

import (
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// observed is about what it costs to have messages traced and measured.
func observed() []Workload {
	const baseline = "the same, not observed"
	return []Workload{{
		Name: "observed/OpenTelemetry, sampled out", Baseline: baseline, Quick: true, Target: Target{CPU: 1.15},
		Ours: motifTypedWith(func() patterns.BusOption { return traced(sdk.NeverSample()) }), Theirs: motifTyped,
	}, {
		Name: "observed/OpenTelemetry, sampled out, with metrics", Baseline: baseline,
		Ours: motifTypedWith(func() patterns.BusOption {
			meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
			return traced(sdk.NeverSample(), otel.WithMeterProvider(meters))
		}), Theirs: motifTyped,
	}, {
		Name: "observed/OpenTelemetry, 1 of 100 sampled", Baseline: baseline,
		Ours:   motifTypedWith(func() patterns.BusOption { return traced(sdk.TraceIDRatioBased(0.01)) }),
		Theirs: motifTyped,
	}}
}

func traced(s sdk.Sampler, opts ...otel.Option) patterns.BusOption {
	tp := sdk.NewTracerProvider(sdk.WithSampler(sdk.ParentBased(s)))
	return otel.Instrument(append(opts, otel.WithTracerProvider(tp))...)
}
