// Observability follows one order through HTTP, its queue, two retries, its death and its replay,
// and prints the trace that they make and what Prometheus is told of it.
//
//	go run ./examples/observability    # or with -broker amqp://guest:guest@localhost/
//
// What a service needs of it are the provider, with an exporter, and the two options of the bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync/atomic"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/middleware/prometheus"
	"github.com/motifmq/motif/patterns"
)

func main() {
	demo.Main(func(ctx context.Context, args []string, out io.Writer) error {
		var opts demo.Options
		if err := demo.Flags("observability", &opts).Parse(args); err != nil {
			return err
		}
		return run(ctx, opts.Broker, replay, out)
	})
}

// replay does what "motif dead replay orders.dead" does, which cannot reach a broker in a process.
func replay(ctx context.Context, bus *patterns.Bus) error {
	_, err := deadletters.New(bus.Driver(), "orders.dead").Replay(ctx, deadletters.ReplayOptions{})
	return err
}

func run(ctx context.Context, broker string, replay func(context.Context, *patterns.Bus) error, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans)) // a service: WithBatcher of an OTLP exporter
	metrics, registry := prometheus.New(), prom.NewRegistry()
	registry.MustRegister(metrics)

	outcomes := make(chan patterns.Result, 10)
	opts := demo.Options{Broker: broker, Needs: adapters.CanInspect} // to replay the dead letter
	bus, closeBus, err := opts.Open(ctx, otel.Instrument(otel.WithTracerProvider(provider)), metrics.Instrument(),
		patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { outcomes <- s.Result }))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()
	orders := patterns.NewWorkQueue[string](bus, "orders")
	tracer := provider.Tracer("service")
	service := http.NewServeMux()
	service.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		ctx, span := tracer.Start(r.Context(), r.Pattern, trace.WithSpanKind(trace.SpanKindServer)) // or otelhttp.NewHandler
		defer span.End()
		if err := orders.Send(ctx, "pad thai"); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	service.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	var repaired atomic.Bool
	_, err = orders.Work(ctx, func(ctx context.Context, dish string) error {
		_, span := tracer.Start(ctx, "cook "+dish)
		defer span.End()
		if !repaired.Load() {
			return errors.New("the kitchen is on fire")
		}
		return nil
	}, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond}))
	if err != nil {
		return err
	}
	request(ctx, service, "POST", "/orders")
	for <-outcomes == patterns.ResultRetried { // until it is dead
	}
	repaired.Store(true)
	if err := replay(ctx, bus); err != nil {
		return err
	}
	<-outcomes
	show(out, spans.GetSpans(), trace.SpanID{}, "")
	for _, line := range regexp.MustCompile(`(?m)^motif_messages_se.* [1-9]\d*$`).FindAllString(request(ctx, service, "GET", "/metrics"), -1) {
		fmt.Fprintln(out, line)
	}
	return nil
}

func request(ctx context.Context, h http.Handler, method, path string) (body string) {
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, method, path, nil))
	return answer.Body.String()
}

// show writes the spans that have a parent, each with those below it.
func show(out io.Writer, spans tracetest.SpanStubs, parent trace.SpanID, indent string) {
	for _, s := range spans {
		if s.Parent.SpanID() == parent {
			fmt.Fprintf(out, "%s%s %s\n", indent, s.Name, s.Status.Description)
			show(out, spans, s.SpanContext.SpanID(), indent+"  ")
		}
	}
}
