package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// metrics are the instruments that are written, and the buses, which others read.
type metrics struct {
	sent, consumed, settledCount, redelivered  metric.Int64Counter
	operation, processing, client, server, age metric.Float64Histogram

	buses buses
}

func (m *metrics) init(meter metric.Meter) {
	counter := func(name, about string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit("{message}"), metric.WithDescription(about))
		report(err)
		return c
	}
	seconds := func(name, about string, buckets []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(about), metric.WithExplicitBucketBoundaries(buckets...))
		report(err)
		return h
	}
	m.sent = counter(metricSent, "Messages that were published, or whose publish failed.")
	m.consumed = counter(metricConsumed, "Messages that were received, once for each try.")
	m.settledCount = counter(metricSettled, "Tries of messages, by what became of them.")
	m.redelivered = counter(metricRedelivered, "Messages that may have been delivered before, to a worker that was lost or shut down.")
	m.operation = seconds(metricOperation, "Time to publish, until the broker has confirmed it.", durationBuckets)
	m.processing = seconds(metricProcess, "Time in handlers and middleware.", durationBuckets)
	m.client = seconds(metricCallClient, "Time of calls, until their reply was there.", durationBuckets)
	m.server = seconds(metricCallServer, "Time in the handlers of calls.", durationBuckets)
	m.age = seconds(metricInQueue, "Time from publishing to the handler, of messages delivered for the first time.", queueBuckets)
	m.buses.init(meter)
}

// report has the SDK's handler told of an error, as all instrumentation does: what cannot be
// measured must not keep a program from running.
func report(err error) {
	if err != nil {
		otel.Handle(err)
	}
}

// published measures a publish of count messages.
func (m *metrics) published(ctx context.Context, d *destinations, op *prepared, err error, count int, took time.Duration) {
	failures(err, count, func(err error, n int) {
		m.sent.Add(ctx, int64(n), d.at(point{operation: op.operation, errorType: middleware.ErrorType(err)}).add...)
	})
	m.operation.Record(ctx, took.Seconds(), d.at(point{operation: op.operation, errorType: middleware.ErrorType(err)}).record...)
}

// called measures a call.
func (m *metrics) called(ctx context.Context, d *destinations, op *prepared, err error, took time.Duration) {
	m.client.Record(ctx, took.Seconds(), d.at(point{operation: op.operation, errorType: middleware.ErrorType(err)}).record...)
}

// settled measures one try of a message.
func (m *metrics) settled(ctx context.Context, d *destinations, s *patterns.Settlement) {
	if !m.consumed.Enabled(ctx) {
		return
	}
	op := operationAt(patterns.Origin{Source: s.Source, Group: s.Group, Call: s.Call})
	why := s.Err
	if s.Result == patterns.ResultSkipped {
		why = nil // it is no failure
	}
	ended := d.at(point{operation: op, errorType: middleware.ErrorType(why)})
	if s.Call {
		m.server.Record(ctx, s.Duration.Seconds(), ended.record...)
	} else {
		m.consumed.Add(ctx, 1, d.at(point{operation: op}).add...)
		m.processing.Record(ctx, s.Duration.Seconds(), ended.record...)
	}
	m.settledCount.Add(ctx, 1, d.at(point{operation: op, result: string(s.Result)}).add...)
	if s.Redelivered {
		m.redelivered.Add(ctx, 1, d.at(point{operation: op}).add...)
	}
	if s.TimeInQueue > 0 {
		m.age.Record(ctx, s.TimeInQueue.Seconds(), d.at(point{operation: op}).record...)
	}
}
