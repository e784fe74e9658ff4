package otel

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// metrics are the instruments, and the buses of which some are read.
type metrics struct {
	meter metric.Meter

	sent, consumed, settledCount, redelivered  metric.Int64Counter
	operation, processing, client, server, age metric.Float64Histogram

	mu     sync.Mutex
	buses  []*patterns.Bus
	closed patterns.Stats // of buses that are
}

func (m *metrics) init(meter metric.Meter) {
	m.meter = meter
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

// observe has the bus read whenever metrics are collected, until it is closed.
func (m *metrics) observe(b *patterns.Bus, d *destinations) (closed func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.buses = append(m.buses, b); len(m.buses) == 1 && m.closed == (patterns.Stats{}) {
		report(m.register(d))
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.buses = slices.DeleteFunc(m.buses, func(one *patterns.Bus) bool { return one == b })
		m.closed = sum(m.closed, b.Stats())
	}
}

// stats is what all the buses have counted that nothing else here does.
func (m *metrics) stats() patterns.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.closed
	for _, b := range m.buses {
		all = sum(all, b.Stats())
	}
	return all
}

func sum(a, b patterns.Stats) patterns.Stats {
	a.Lost += b.Lost
	a.TimedOut += b.TimedOut
	a.LateReplies += b.LateReplies
	a.LostReplies += b.LostReplies
	return a
}

// register makes the instruments that are read.
func (m *metrics) register(d *destinations) error {
	var all []metric.Observable
	counter := func(name, unit, about string) metric.Int64ObservableCounter {
		c, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		report(err)
		all = append(all, c)
		return c
	}
	lost := counter(metricLost, "{message}", "Messages that came back because a worker was lost.")
	timedOut := counter(metricTimedOut, "{message}", "Messages that the broker took back, for they were held too long.")
	late := counter(metricLateReplies, "{reply}", "Replies to calls that nobody waited for any more.")
	unsent := counter(metricLostReplies, "{reply}", "Replies that could not be sent to their caller.")
	busy, err := m.meter.Int64ObservableUpDownCounter(metricBusy, metric.WithUnit("{worker}"), metric.WithDescription("Handlers at work."))
	report(err)
	_, err = m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := m.stats()
		o.ObserveInt64(lost, int64(s.Lost))
		o.ObserveInt64(timedOut, int64(s.TimedOut))
		o.ObserveInt64(late, int64(s.LateReplies))
		o.ObserveInt64(unsent, int64(s.LostReplies))
		d.operations.each(func(p *prepared) {
			if p.span == trace.SpanKindConsumer || p.span == trace.SpanKindServer {
				o.ObserveInt64(busy, p.busy.Load(), metric.WithAttributeSet(d.at(point{operation: p.operation}).set))
			}
		})
		return nil
	}, append(all, busy)...)
	return err
}
