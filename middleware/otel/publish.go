package otel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// publish implements [patterns.PublishHook].
func (in *instrument) publish(ctx context.Context, p *patterns.Publishing) func(error) {
	switch {
	case p.Cause == patterns.CauseReply:
		return nil // it is part of the server's span
	case p.Cause == patterns.CauseCall:
		return in.call(ctx, p)
	case p.Len() > 1:
		return in.publishBatch(ctx, p)
	}
	creation := in.creation(p, 0)
	kind := trace.SpanKindProducer
	if creation.IsValid() {
		kind = trace.SpanKindClient
	}
	op := in.destinations.operation(operation{
		name: operationOf(p.Cause, p.To.Kind), kind: typeSend, destination: p.To.Name, span: kind,
	})
	start := time.Now()
	ctx, span := in.tracer.Start(ctx, op.spanName, op.start...)
	if creation.IsValid() {
		in.resent(ctx, p)
	} else {
		in.propagator.Inject(ctx, (*single)(p))
	}
	recording := span.IsRecording()
	if recording {
		describe(span, p)
		span.SetAttributes(keyMessageID.String(p.ID(0)), keyBodySize.Int(p.Size(0)))
		if creation.IsValid() {
			span.AddLink(trace.Link{SpanContext: creation})
		}
	}
	measured := in.metrics.sent.Enabled(ctx)
	if !recording && !measured {
		return nil
	}
	return func(err error) {
		if measured {
			in.metrics.published(ctx, &in.destinations, op, err, 1, time.Since(start))
		}
		end(span, err)
	}
}

// creation returns the span that a message carries already.
func (in *instrument) creation(p *patterns.Publishing, i int) trace.SpanContext {
	if !p.HasHeaders(i) {
		return trace.SpanContext{}
	}
	return in.spanContextOf(outgoing{p, i})
}

// resent notes in a message that has its creation context the span that sends it on.
func (in *instrument) resent(ctx context.Context, p *patterns.Publishing) {
	if p.Cause == patterns.CausePublish {
		return
	}
	var c attempt
	propagation.TraceContext{}.Inject(ctx, &c)
	p.SetHeader(0, attemptHeader, c.value)
}

// describe says of a span what of a destination is not for metrics.
func describe(span trace.Span, p *patterns.Publishing) {
	if p.Key != "" && p.To.Kind.UsesKeys() {
		name, template := destinationOf(p.To.Name, p.Key)
		span.SetAttributes(keyDestination.String(name), keyTemplate.String(template), keyRoutingKey.String(p.Key))
	}
	if p.Attempt > 0 {
		span.SetAttributes(keyAttempt.Int(p.Attempt))
	}
}

// publishBatch is publish for several messages: each has a span that created it.
func (in *instrument) publishBatch(ctx context.Context, p *patterns.Publishing) func(error) {
	create := in.destinations.operation(operation{name: typeCreate, kind: typeCreate, destination: p.To.Name, span: trace.SpanKindProducer})
	op := in.destinations.operation(operation{
		name: operationOf(p.Cause, p.To.Kind), kind: typeSend, destination: p.To.Name, span: trace.SpanKindClient,
	})
	start := time.Now()
	links := make([]trace.Link, p.Len())
	for i := range links {
		if links[i].SpanContext = in.creation(p, i); links[i].SpanContext.IsValid() {
			continue
		}
		ctx, span := in.tracer.Start(ctx, create.spanName, create.start...)
		in.propagator.Inject(ctx, outgoing{p, i})
		links[i].SpanContext = span.SpanContext()
		if span.IsRecording() {
			describe(span, p)
			span.SetAttributes(keyMessageID.String(p.ID(i)), keyBodySize.Int(p.Size(i)))
		}
		span.End()
	}
	count := p.Len()
	ctx, span := in.tracer.Start(ctx, op.spanName, op.start...)
	if span.IsRecording() {
		describe(span, p)
		span.SetAttributes(keyBatchCount.Int(count))
		for _, l := range links {
			span.AddLink(l)
		}
	}
	return func(err error) {
		if in.metrics.sent.Enabled(ctx) {
			in.metrics.published(ctx, &in.destinations, op, err, count, time.Since(start))
		}
		end(span, err)
	}
}

// call is publish for the request of an RPC, whose span lasts until the reply is there.
func (in *instrument) call(ctx context.Context, p *patterns.Publishing) func(error) {
	op := in.destinations.operation(operation{destination: p.To.Name, method: true, span: trace.SpanKindClient})
	start := time.Now()
	ctx, span := in.tracer.Start(ctx, op.spanName, op.start...)
	in.propagator.Inject(ctx, (*single)(p))
	if span.IsRecording() {
		span.SetAttributes(keyMessageID.String(p.ID(0)), keyBodySize.Int(p.Size(0)))
	}
	return func(err error) {
		in.metrics.called(ctx, &in.destinations, op, err, time.Since(start))
		if status := statusOf(err); status != "" {
			span.SetAttributes(keyRPCStatus.String(status))
		}
		end(span, err)
	}
}

// statusOf returns the code with which an RPC's server answered.
func statusOf(err error) string {
	if remote, ok := errors.AsType[*patterns.RemoteError](err); ok {
		return remote.Code
	}
	return ""
}

// end ends a span with the outcome of what it is about.
func end(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(keyErrorType.String(middleware.ErrorType(err)))
	}
	span.End()
}

// failures calls f with each kind of error that messages of a publish ended with, nil for what the
// broker has, and how many did.
func failures(err error, count int, f func(err error, n int)) {
	var failed *adapters.PublishError
	if count == 1 || !errors.As(err, &failed) {
		f(err, count)
		return
	}
	for _, m := range failed.Failed {
		f(m.Err, 1)
	}
	if stored := count - len(failed.Failed); stored > 0 {
		f(nil, stored)
	}
}
