package otel

import (
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/patterns"
)

// outgoing is a message that is about to be published, as a carrier of a span's context.
type outgoing struct {
	*patterns.Publishing
	i int
}

func (c outgoing) Get(key string) string { return traceHeader(key, c.header) }
func (c outgoing) Set(key, value string) { c.SetHeader(c.i, key, value) }
func (c outgoing) Keys() []string        { return nil }

func (c outgoing) header(key string) string { return c.Header(c.i, key) }

// single is outgoing for a message that is published alone: as an interface it allocates nothing.
type single patterns.Publishing

func (c *single) Get(key string) string { return traceHeader(key, c.header) }
func (c *single) Set(key, value string) { (*patterns.Publishing)(c).SetHeader(0, key, value) }
func (c *single) Keys() []string        { return nil }

func (c *single) header(key string) string { return (*patterns.Publishing)(c).Header(0, key) }

// received is the headers of a message that was received, as one.
type received map[string]string

func (c received) Get(key string) string {
	if len(c) == 0 {
		return ""
	}
	return traceHeader(key, c.header)
}
func (c received) Set(key, value string) { c[key] = value }
func (c received) Keys() []string        { return slices.Collect(maps.Keys(c)) }

func (c received) header(key string) string { return c[key] }

// cloudEvents are the headers of CloudEvents' distributed tracing extension, by AMQP's binding, the
// same with the separator that JMS takes, and the bindings of Kafka and of HTTP.
var cloudEvents = [...]struct{ parent, state string }{
	{"cloudEvents:traceparent", "cloudEvents:tracestate"},
	{"cloudEvents_traceparent", "cloudEvents_tracestate"},
	{"ce_traceparent", "ce_tracestate"},
	{"ce-traceparent", "ce-tracestate"},
}

// traceHeader returns a header. Where there is no traceparent, it and tracestate are those of a
// CloudEvent.
func traceHeader(key string, header func(string) string) string {
	value := header(key)
	switch {
	case value != "":
	case key == headerTraceparent:
		for _, ce := range cloudEvents {
			if value = header(ce.parent); value != "" {
				break
			}
		}
	case key == headerTracestate && header(headerTraceparent) == "":
		for _, ce := range cloudEvents {
			if header(ce.parent) != "" {
				return header(ce.state)
			}
		}
	}
	return value
}

// attemptHeader names the span from which the message was sent last, where that is not the one that
// created it: of a retry, a dead letter, a redrive. It is written as a traceparent.
const attemptHeader = "motif.attempt.traceparent"

// attempt is a carrier of that.
type attempt struct{ header, value string }

func (c *attempt) Get(key string) string {
	if key == headerTraceparent {
		return c.header
	}
	return ""
}

func (c *attempt) Set(key, value string) {
	if key == headerTraceparent {
		c.value = value
	}
}

func (c *attempt) Keys() []string { return []string{headerTraceparent} }

// previous returns the span that an attemptHeader names.
func previous(header string) trace.SpanContext {
	if header == "" {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &attempt{header: header}))
}
