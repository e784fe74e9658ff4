package otel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

var errKitchen = errors.New("the kitchen is on fire")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spans records what a test's bus and the test itself trace.
type spans struct {
	recorder *tracetest.SpanRecorder
	provider *sdk.TracerProvider
}

func newSpans(opts ...sdk.TracerProviderOption) spans {
	r := tracetest.NewSpanRecorder()
	return spans{r, sdk.NewTracerProvider(append(opts, sdk.WithSpanProcessor(r))...)}
}

// begin begins a span of the program's.
func (s spans) begin(ctx context.Context, name string) (context.Context, func()) {
	ctx, span := s.provider.Tracer("test").Start(ctx, name)
	return ctx, func() { span.End() }
}

// in runs a test on an in-process broker, in virtual time, with all of it traced.
func (s spans) in(t *testing.T, test func(t *testing.T, bus *patterns.Bus, broker *memory.Broker), opts ...otel.Option) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect(), otel.Instrument(append(opts, otel.WithTracerProvider(s.provider))...))
		test(t, bus, broker)
		must(t, bus.Close(context.Background()))
		synctest.Wait()
	})
}

// want compares all spans that have ended with lines. Each begins with two spaces for each span
// above it, and says what shows says of it.
func (s spans) want(t *testing.T, lines ...string) {
	t.Helper()
	if got := s.lines(); !slices.Equal(got, lines) {
		t.Errorf("spans:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// lines has one tree after another, and children in the order in which they began.
func (s spans) lines() (lines []string) {
	ended := s.recorder.Ended()
	slices.SortStableFunc(ended, func(a, b sdk.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	number := map[string]string{} // of spans that others link to: their name, and which one
	seen := map[string]int{}
	for _, span := range ended {
		seen[span.Name()]++
		number[span.SpanContext().SpanID().String()] = fmt.Sprint(span.Name(), "#", seen[span.Name()])
	}
	var below func(parent, indent string)
	below = func(parent, indent string) {
		for _, span := range ended {
			if span.Parent().SpanID().String() == parent {
				lines = append(lines, indent+show(span, number))
				below(span.SpanContext().SpanID().String(), indent+"  ")
			}
		}
	}
	below("0000000000000000", "")
	return lines
}

func show(span sdk.ReadOnlySpan, number map[string]string) string {
	line := fmt.Sprintf("%s: %s", span.Name(), span.SpanKind())
	for _, a := range span.Attributes() {
		switch a.Key {
		case "motif.result", "motif.attempt", "error.type", "messaging.batch.message_count", "messaging.consumer.group.name",
			"rpc.response.status_code", "messaging.rabbitmq.destination.routing_key":
			key := string(a.Key)
			line += " " + key[strings.LastIndex(key, ".")+1:] + "=" + a.Value.String()
		}
	}
	if span.Status().Code == codes.Error {
		line += " error"
	}
	for _, l := range span.Links() {
		line += " ->" + number[l.SpanContext.SpanID().String()]
	}
	return line
}

// attributes returns those of the only span with a name.
func (s spans) attributes(t *testing.T, name string) attribute.Set {
	t.Helper()
	for _, span := range s.recorder.Ended() {
		if span.Name() == name {
			return attribute.NewSet(span.Attributes()...)
		}
	}
	t.Fatalf("no span %q", name)
	return attribute.Set{}
}
