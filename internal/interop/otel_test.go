package interop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// A message that another program published with a traceparent is tried, dies, is redriven and
// succeeds in that trace, by way of the delay queues; what is published is found to carry its
// traceparent as text, as other programs' instrumentation has it.
func TestTraceThroughTheBroker(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	url := amqptest.URL(t)
	driver := connect(t, url, amqp.Quorum)
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	results := make(chan patterns.Result, 10)
	bus := patterns.New(driver, otel.Instrument(otel.WithTracerProvider(provider)),
		patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { results <- s.Result }))
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	ctx := soon(t)

	orders := patterns.NewWorkQueue[order](bus, unique(t))
	if err := orders.Declare(ctx); err != nil {
		t.Fatal(err)
	}
	queue := orders.Name()
	publishRaw(t, url, queue, amqp091.Publishing{
		ContentType: contentType, MessageId: "foreign", Headers: amqp091.Table{"traceparent": parent}, Body: []byte(padThai),
	})
	broken := make(chan struct{}) // closed when the handler works
	sub, err := orders.Work(ctx, func(context.Context, order) error {
		select {
		case <-broken:
			return nil
		default:
			return errors.New("the kitchen is on fire")
		}
	}, patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: 100 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	next := func(want patterns.Result) {
		t.Helper()
		select {
		case got := <-results:
			if got != want {
				t.Fatalf("it is %s, want %s", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("nothing was %s", want)
		}
	}
	next(patterns.ResultRetried)
	next(patterns.ResultDeadLettered)
	close(broken)
	if n, err := orders.Dead().Redrive(ctx); n != 1 || err != nil {
		t.Fatalf("%d redriven, %v", n, err)
	}
	next(patterns.ResultAcknowledged)
	if err := sub.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range recorder.Ended() {
		operation, _, _ := strings.Cut(s.Name(), " ")
		switch names = append(names, operation); operation {
		case "process":
			if s.Parent().SpanID().String() != parent[36:52] || s.SpanContext().TraceID().String() != parent[3:35] {
				t.Errorf("%s is a child of %s in %s", s.Name(), s.Parent().SpanID(), s.SpanContext().TraceID())
			}
		case "redrive":
			if len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID().String() != parent[36:52] {
				t.Errorf("it links to %+v", s.Links())
			}
		}
	}
	// A redriven message may be handled before whoever redrove it has heard of the confirm.
	got, want := strings.Join(names, " "), "retry process settle process dead-letter settle redrive process settle"
	if len(names) != 9 {
		t.Errorf("the spans are %s, want %s in some order", got, want)
	}

	sender, done := provider.Tracer("test").Start(ctx, "POST /orders")
	if err := orders.Send(sender, order{"ramen"}); err != nil {
		t.Fatal(err)
	}
	done.End()
	err = driver.Do(ctx, func(ch *amqp091.Channel) error {
		m, _, err := ch.Get(queue, true)
		text, _ := m.Headers["traceparent"].(string)
		if want := done.SpanContext().TraceID().String(); !strings.Contains(text, want) {
			t.Errorf("its headers are %v, want a traceparent in %s", m.Headers, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
