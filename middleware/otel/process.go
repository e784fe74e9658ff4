package otel

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// processed is in the ctx of a message whose "process" span is recorded.
type processed struct{ returned time.Time }

type processedKey struct{}

// process is the middleware around every handler.
func (in *instrument) process(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) (produced []*message.Message, err error) {
		ctx := m.Context()
		from, _ := patterns.OriginFrom(ctx)
		op := in.destinations.operation(operationAt(from))
		headers := received(m.Metadata)
		ctx = in.propagator.Extract(withoutSpan(ctx), headers)
		creation := trace.SpanContextFromContext(ctx)
		if in.newTraces && !from.Call {
			ctx = withoutSpan(ctx)
		}
		ctx, span := in.tracer.Start(ctx, op.spanName, op.start...)
		var p *processed
		if span.IsRecording() {
			p = &processed{}
			ctx = context.WithValue(ctx, processedKey{}, p)
			d, _ := patterns.DeliveryFrom(ctx)
			describeReceived(span, &d, creation)
		}
		m.SetContext(ctx) // and left there, for settled
		panicked := true
		defer func() {
			if p == nil {
				span.End()
				return
			}
			p.returned = time.Now()
			if panicked {
				span.SetStatus(codes.Error, "panic")
				span.SetAttributes(keyErrorType.String("panic"))
				span.End()
				return
			}
			if err == nil && ctx.Err() != nil {
				span.AddEvent("context ended", trace.WithAttributes(keyErrorType.String(middleware.ErrorType(ctx.Err()))))
			}
			endProcess(span, err)
		}()
		produced, err = next(m)
		panicked = false
		return produced, err
	}
}

// withoutSpan returns ctx for what is no part of the span in it: where a subscription was begun.
func withoutSpan(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, trace.SpanContext{})
}

func operationAt(from patterns.Origin) operation {
	if from.Call {
		return operation{destination: from.Source.Name, method: true, span: trace.SpanKindServer}
	}
	return operation{name: "process", kind: typeProcess, destination: from.Source.Name, group: from.Group, span: trace.SpanKindConsumer}
}

// describeReceived says of a span which message it is about, and links it to where that came from.
func describeReceived(span trace.Span, d *patterns.Delivery, creation trace.SpanContext) {
	span.SetAttributes(keyMessageID.String(d.ID), keyBodySize.Int(len(d.Payload)))
	if d.Attempt > 0 && !d.Call {
		span.SetAttributes(keyAttempt.Int(d.Attempt))
	}
	if d.Key != "" && d.Source.Kind.UsesKeys() {
		name, template := destinationOf(d.Source.Name, d.Key)
		span.SetAttributes(keyDestination.String(name), keyTemplate.String(template), keyRoutingKey.String(d.Key))
	}
	if d.Call {
		return
	}
	if creation.IsValid() {
		span.AddLink(trace.Link{SpanContext: creation})
	}
	if before := previous(d.Headers[attemptHeader]); before.IsValid() {
		span.AddLink(trace.Link{SpanContext: before})
	}
}

// got is called with each message that the program took itself: the span is the program's, and
// linked to where the message came from, as several may be taken below one span.
func (in *instrument) got(ctx context.Context, g patterns.Got) {
	op := in.destinations.operation(operation{name: typeReceive, kind: typeReceive, destination: g.Source.Name, group: g.Group, span: trace.SpanKindClient})
	_, span := in.tracer.Start(ctx, op.spanName, append(op.start[:len(op.start):len(op.start)], trace.WithTimestamp(g.Began))...)
	if span.IsRecording() {
		describeReceived(span, &g.Delivery, in.spanContextOf(received(g.Headers)))
	}
	end(span, g.Err)
}

// endProcess ends a span by what a handler returned.
func endProcess(span trace.Span, err error) {
	if kind := middleware.ErrorType(err); kind == "skipped" {
		span.SetAttributes(keyErrorType.String(kind)) // which is no failure
		err = nil
	}
	end(span, err)
}

// settled is called with what became of each message.
func (in *instrument) settled(ctx context.Context, s patterns.Settlement) {
	in.metrics.settled(ctx, &in.destinations, &s)
	p, _ := ctx.Value(processedKey{}).(*processed)
	if p == nil || s.Call {
		return
	}
	op := in.destinations.operation(operation{name: typeSettle, kind: typeSettle, destination: s.Source.Name, group: s.Group, span: trace.SpanKindClient})
	_, span := in.tracer.Start(ctx, op.spanName, append(op.start[:len(op.start):len(op.start)], trace.WithTimestamp(p.returned))...)
	span.SetAttributes(keyMessageID.String(s.ID), keyResult.String(string(s.Result)))
	if s.RetryIn > 0 {
		span.SetAttributes(keyRetryIn.Float64(s.RetryIn.Seconds()))
	}
	var err error
	if s.Result == patterns.ResultStale {
		err = s.Err // what kept it from being settled; otherwise the handler's, which is on its own span
	}
	end(span, err)
}
