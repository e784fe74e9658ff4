// Observability follows one order through HTTP, its queue, two retries, its death and its redrive,
// and prints the trace that they make and what Prometheus is told of it.
//
//	go run ./examples/observability    # or with -broker amqp://guest:guest@localhost/
//
// What a service needs of it are the provider, with an exporter, and the two options of the bus.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"sync/atomic"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	_ "github.com/motifmq/motif/adapters/amqp"
	_ "github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/middleware/prometheus"
	"github.com/motifmq/motif/patterns"
)

func main() {
	broker := flag.String("broker", "memory:", "its `URL`")
	flag.Parse()
	if err := run(context.Background(), *broker, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, broker string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans)) // a service: WithBatcher of an OTLP exporter
	metrics, registry := prometheus.New(), prom.NewRegistry()
	registry.MustRegister(metrics)

	outcomes := make(chan patterns.Result, 10)
	bus, err := patterns.Open(ctx, broker,
		otel.Instrument(otel.WithTracerProvider(provider)), metrics.Instrument(),
		patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { outcomes <- s.Result }),
	)
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	orders := patterns.NewWorkQueue[string](bus, "orders")

	tracer := provider.Tracer("service")
	handle := func(mux *http.ServeMux, route string, f func(context.Context) error) {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) { // or otelhttp.NewHandler
			ctx, span := tracer.Start(r.Context(), route, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
			if err := f(ctx); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		})
	}
	service := http.NewServeMux()
	handle(service, "POST /orders", func(ctx context.Context) error { return orders.Send(ctx, "pad thai") })
	handle(service, "POST /redrive", func(ctx context.Context) error { _, err := orders.Dead().Redrive(ctx); return err })
	service.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	var burning atomic.Bool
	burning.Store(true)
	_, err = orders.Work(ctx, func(ctx context.Context, dish string) error {
		_, span := tracer.Start(ctx, "cook "+dish)
		defer span.End()
		if burning.Load() {
			return errors.New("the kitchen is on fire")
		}
		return nil
	}, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond}))
	if err != nil {
		return err
	}
	request(ctx, service, "POST", "/orders")
	for result := patterns.ResultRetried; result == patterns.ResultRetried; result = <-outcomes { // to its death
	}
	burning.Store(false)
	request(ctx, service, "POST", "/redrive")
	<-outcomes
	show(out, spans.GetSpans(), trace.SpanID{}, "")
	for _, line := range regexp.MustCompile(`(?m)^motif_messages_se.*`).FindAllString(request(ctx, service, "GET", "/metrics"), -1) {
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
