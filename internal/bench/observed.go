package main

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

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
		Name: "observed/OpenTelemetry, sampled out, by hand", Baseline: "the same with the spans of an application's own",
		Ours:   motifTypedWith(func() patterns.BusOption { return traced(sdk.NeverSample()) }),
		Theirs: tracedByHand,
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

// tracedByHand is the least that carries a trace from who sends to who handles: a span on each
// side, and the header.
func tracedByHand(ctx context.Context, r *Run) error {
	tracer := sdk.NewTracerProvider(sdk.WithSampler(sdk.ParentBased(sdk.NeverSample()))).Tracer("bench")
	return passTyped(ctx, r, way{
		send: func(ctx context.Context, q *patterns.WorkQueue[ticket], v ticket) (*patterns.Receipt, error) {
			ctx, span := tracer.Start(ctx, "send", trace.WithSpanKind(trace.SpanKindProducer))
			defer span.End()
			carrier := propagation.MapCarrier{}
			propagation.TraceContext{}.Inject(ctx, carrier)
			return q.SendAsync(ctx, v, patterns.Header("traceparent", carrier["traceparent"]))
		},
		handle: func(ctx context.Context) {
			d, _ := patterns.DeliveryFrom(ctx)
			ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(d.Headers))
			_, span := tracer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer))
			span.End()
		},
	})
}
