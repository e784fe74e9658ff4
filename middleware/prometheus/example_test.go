package prometheus_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/prometheus"
	"github.com/motifmq/motif/patterns"
)

func ExampleCollector() {
	metrics := prometheus.New()
	registry := prom.NewRegistry()
	registry.MustRegister(metrics)
	page := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // for "GET /metrics"

	bus := patterns.New(memory.New().Connect(), metrics.Instrument())
	defer bus.Close(context.Background())
	_ = patterns.NewWorkQueue[string](bus, "orders").Send(context.Background(), "pad thai")

	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), "GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "motif_messages_sent_total") {
			fmt.Print(line)
		}
	}
	// Output:
	// motif_messages_sent_total{destination="orders",error="",operation="publish"} 1
}
