package otel_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/otel"
	"github.com/motifmq/motif/patterns"
)

// collect returns what a reader has, a line for each metric and its attributes: the value of a
// counter, and of a histogram how many and how much.
func collect(t *testing.T, r metric.Reader) (lines []string) {
	t.Helper()
	var data metricdata.ResourceMetrics
	must(t, r.Collect(context.Background(), &data))
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					if p.Value != 0 {
						lines = append(lines, fmt.Sprintf("%s%s %d", m.Name, labels(p.Attributes), p.Value))
					}
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("%s%s %d in %.0fs", m.Name, labels(p.Attributes), p.Count, p.Sum))
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func labels(set attribute.Set) string {
	var all []string
	for _, a := range set.ToSlice() {
		if a.Key != "messaging.system" && a.Key != "messaging.operation.type" && a.Key != "rpc.system.name" {
			all = append(all, a.Value.String())
		}
	}
	return "{" + strings.Join(all, " ") + "}"
}

func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect(), otel.Instrument(otel.WithMeterProvider(provider)))
		ctx := t.Context()
		small := patterns.NewWorkQueue[int](bus, "small", patterns.MaxLength(1))
		must(t, small.Send(ctx, 1))
		if small.SendBatch(ctx, []int{2, 3}) == nil {
			t.Error("a full queue took more")
		}
		orders := patterns.NewWorkQueue[string](bus, "orders")
		must(t, orders.SendBatch(ctx, []string{"fine", "burnt", "unknown"}))
		time.Sleep(time.Minute)
		_, err := orders.Work(ctx, func(_ context.Context, dish string) error {
			time.Sleep(3 * time.Second)
			switch dish {
			case "burnt":
				return errKitchen
			case "unknown":
				return patterns.Skip(errKitchen)
			}
			return nil
		}, patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		time.Sleep(time.Second)
		if got, want := collect(t, reader), "motif.workers.busy{orders process} 1"; !slices.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, strings.Join(got, "\n"))
		}
		time.Sleep(time.Hour)
		price := patterns.NewRPC[int, int](bus, "price")
		_, err = price.Serve(ctx, func(context.Context, int) (int, error) { time.Sleep(time.Second); return 7, nil })
		must(t, err)
		_, err = price.Call(ctx, 1)
		must(t, err)
		synctest.Wait()
		want := []string{
			"messaging.client.consumed.messages{orders process} 4",
			"messaging.client.operation.duration{orders retry} 1 in 0s",
			"messaging.client.operation.duration{orders send} 1 in 0s",
			"messaging.client.operation.duration{orders.dead dead-letter} 1 in 0s",
			"messaging.client.operation.duration{nacked small send} 1 in 0s",
			"messaging.client.operation.duration{small send} 1 in 0s",
			"messaging.client.sent.messages{nacked small send} 2",
			"messaging.client.sent.messages{orders retry} 1",
			"messaging.client.sent.messages{orders send} 3",
			"messaging.client.sent.messages{orders.dead dead-letter} 1",
			"messaging.client.sent.messages{small send} 1",
			"messaging.process.duration{_OTHER orders process} 2 in 6s",
			"messaging.process.duration{orders process} 2 in 6s",
			"motif.message.time_in_queue{orders process} 3 in 189s",
			"motif.settled.messages{orders process acknowledged} 1",
			"motif.settled.messages{orders process dead-lettered} 1",
			"motif.settled.messages{orders process retried} 1",
			"motif.settled.messages{orders process skipped} 1",
			"motif.settled.messages{acknowledged price} 1",
			"motif.workers{orders process} 1",
			"motif.workers{price process} 16",
			"motif.connections.up{all} 1",
			"rpc.client.call.duration{price} 1 in 1s",
			"rpc.server.call.duration{price} 1 in 1s",
		}
		slices.Sort(want)
		if got := collect(t, reader); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		must(t, bus.Close(context.Background()))
	})
}

// What the bus counts outlives it, and is that of all buses together.
func TestMetricsOfTheBus(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	option := otel.Instrument(otel.WithMeterProvider(provider))
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		for range 2 {
			bus := patterns.New(broker.Connect(), option)
			price := patterns.NewRPC[int, int](bus, "price")
			_, err := price.Serve(t.Context(), func(context.Context, int) (int, error) { time.Sleep(time.Second); return 7, nil })
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			_, err = price.Call(ctx, 1)
			cancel()
			if err == nil {
				t.Error("it was answered in time")
			}
			time.Sleep(time.Second)
			must(t, bus.Close(context.Background()))
		}
	})
	for _, line := range collect(t, reader) {
		if strings.HasPrefix(line, "motif.late_replies") || strings.HasPrefix(line, "motif.lost_replies") {
			return
		}
	}
	t.Error("no reply was late")
}

// Names that a program makes up do not become attributes without end.
func TestBoundedAttributes(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithCardinalityLimit(0))
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect(), otel.Instrument(otel.WithMeterProvider(provider)))
		for i := range 2500 {
			must(t, patterns.NewPubSub[int](bus, fmt.Sprint("news-", i)).Publish(t.Context(), 1))
		}
		must(t, bus.Close(context.Background()))
	})
	lines := collect(t, reader)
	others := slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "_OTHER publish") })
	if len(lines) > 4100 || !others {
		t.Errorf("%d combinations; others: %v", len(lines), others)
	}
}

// The docs list every metric, and say which version of the conventions is followed.
func TestMetricsAreDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/observability.md")
	must(t, err)
	names, err := os.ReadFile("semconv.go")
	must(t, err)
	found := regexp.MustCompile(`(metric\w+|semconvVersion)\s+= "([^"]+)"`).FindAllSubmatch(names, -1)
	if len(found) < 18 {
		t.Fatalf("%d names found: the search is broken", len(found))
	}
	for _, m := range found {
		if !strings.Contains(string(docs), string(m[2])) {
			t.Errorf("docs/observability.md does not say %s", m[2])
		}
	}
}
