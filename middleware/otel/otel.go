// Package otel has a bus traced and measured with OpenTelemetry:
//
//	bus, err := patterns.Open(ctx, url, otel.Instrument())
//
// That is all. Spans and metrics go to the global providers, or to those that options name.
//
// # Traces
//
// A message carries the span that it was published in, as W3C Trace Context (the headers
// traceparent and tracestate) and baggage, which other languages' instrumentations read and write,
// too. A message that has a traceparent already, as [patterns.Header] or
// [patterns.AsReceived] gave it, keeps it. Of a CloudEvent without one, the distributed tracing
// extension is read.
//
//   - "send QUEUE" or "publish EXCHANGE": a publish, until the broker has confirmed it. Several
//     messages at once have a "create" span each, and one for the publish, which links to them.
//   - "process SOURCE": the handler and the middleware inside this one. Its parent is the span that
//     the message carries, to which it links as well.
//   - "retry", "requeue", "dead-letter", "redrive QUEUE": what the library publishes, below the
//     "process" span that made it.
//   - "settle SOURCE": below "process", from the handler's return until the message was settled.
//     Its attribute motif.result says what became of the message.
//   - "receive QUEUE": a message that the program took with Get, TryGet or Waiting, below the span
//     of their ctx, linked to the span that the message carries.
//   - "FUNCTION": a call of an RPC, at the client and at the server.
//
// Each try of a message is a child of the publish that created it, not of the try before, to which
// it links. So a message that is retried for a week, dies and is redriven makes one trace that is
// no deeper for it. [NewTraces] begins one for each try.
//
// # Metrics
//
// They are listed in docs/observability.md. Their attributes have few values: names of queues,
// exchanges and groups (2000 combinations of attributes; then the name is "_OTHER"), the outcome,
// and an error.type by [middleware.ErrorType]. Routing keys and message ids are on spans only.
//
// What is followed is version 1.44.0 of the semantic conventions. Those for messaging are not
// stable: with a later version of this package names may change.
package otel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/patterns"
)

// scope is the name under which all this is known.
const scope = "github.com/motifmq/motif/middleware/otel"

// Option is for [Instrument].
type Option func(*config)

type config struct {
	traces     trace.TracerProvider
	meters     metric.MeterProvider
	propagator propagation.TextMapPropagator
	newTraces  bool
}

// WithTracerProvider has spans go to tp. Without it they go to the global one.
func WithTracerProvider(tp trace.TracerProvider) Option { return func(c *config) { c.traces = tp } }

// WithMeterProvider has metrics go to mp. Without it they go to the global one.
func WithMeterProvider(mp metric.MeterProvider) Option { return func(c *config) { c.meters = mp } }

// WithPropagator says how the context of a span travels in a message. Without it that is W3C Trace
// Context and Baggage, whatever the global one is, which does nothing unless it is set.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

// NewTraces has each try of a message begin a trace of its own, linked to the publish. Without it
// the tries belong to the trace of the publish. It is for messages of which hundreds come of
// one, or that wait for longer than a backend keeps a trace open.
func NewTraces() Option { return func(c *config) { c.newTraces = true } }

// Instrument returns an option for [patterns.New] and [patterns.Open], for one bus. Given first,
// its middleware is the outermost, and what others take is part of the "process" span.
func Instrument(opts ...Option) patterns.BusOption {
	c := config{
		traces: otel.GetTracerProvider(), meters: otel.GetMeterProvider(),
		propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}
	for _, o := range opts {
		o(&c)
	}
	in := &instrument{
		tracer:     c.traces.Tracer(scope, trace.WithSchemaURL(schemaURL)),
		propagator: c.propagator, newTraces: c.newTraces,
	}
	in.metrics.init(c.meters.Meter(scope, metric.WithSchemaURL(schemaURL)))
	in.destinations.system = "motif"
	return patterns.BusOptions(
		patterns.OnNew(in.attach),
		patterns.OnPublish(in.publish),
		patterns.WithMiddleware(in.process),
		patterns.OnSettle(in.settled),
		patterns.OnGet(in.got),
	)
}

// instrument is what watches a bus.
type instrument struct {
	tracer       trace.Tracer
	propagator   propagation.TextMapPropagator
	newTraces    bool
	metrics      metrics
	destinations destinations
}

// attach begins to observe what the bus counts itself.
func (in *instrument) attach(b *patterns.Bus) (closed func()) {
	in.destinations.system = systemOf(b.Driver().Features().Adapter)
	return in.metrics.buses.observe(b, &in.destinations)
}

// spanContextOf returns the span that a carrier names, if it names one.
func (in *instrument) spanContextOf(c propagation.TextMapCarrier) trace.SpanContext {
	return trace.SpanContextFromContext(in.propagator.Extract(context.Background(), c))
}
