package prometheus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware/prometheus"
	"github.com/motifmq/motif/patterns"
)

var errKitchen = errors.New("the kitchen is on fire")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// day has something of everything happen on a bus, and returns the page of metrics.
func day(t *testing.T, during func(bus *patterns.Bus)) (page string) {
	metrics := prometheus.New()
	registry := prom.NewPedanticRegistry()
	must(t, registry.Register(metrics))
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect(), metrics.Instrument())
		ctx := t.Context()
		small := patterns.NewWorkQueue[int](bus, "small", patterns.MaxLength(1))
		must(t, small.Send(ctx, 1))
		if small.SendBatch(ctx, []int{2, 3}) == nil {
			t.Error("a full queue took more")
		}
		orders := patterns.NewWorkQueue[string](bus, "orders")
		must(t, orders.SendBatch(ctx, []string{"fine", "burnt", "unknown"}))
		time.Sleep(time.Minute)
		again := false
		_, err := orders.Work(ctx, func(_ context.Context, dish string) error {
			time.Sleep(3 * time.Second)
			switch {
			case dish == "burnt":
				return errKitchen
			case dish == "unknown":
				return patterns.Skip(errKitchen)
			case !again:
				again = true
				return patterns.RequeueAfter(0, errKitchen)
			}
			return nil
		}, patterns.Workers(2), patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		time.Sleep(time.Second)
		if n, err := testutil.GatherAndCount(registry, "motif_workers_busy"); n != 1 || err != nil {
			t.Errorf("%d gauges of workers, %v", n, err)
		}
		// An alert has to see the first dead letter as an increase, from 0.
		if n, err := testutil.GatherAndCount(registry, "motif_messages_settled_total"); n != 7 || err != nil {
			t.Errorf("before anything is settled: %d counts, %v", n, err)
		}
		time.Sleep(time.Hour)
		price := patterns.NewRPC[int, int](bus, "price")
		_, err = price.Serve(ctx, func(context.Context, int) (int, error) { time.Sleep(time.Second); return 7, nil })
		must(t, err)
		_, err = price.Call(ctx, 1)
		must(t, err)
		synctest.Wait()
		during(bus)
		answer := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		page = answer.Body.String()
		must(t, bus.Close(context.Background()))
	})
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(registry, "motif_replies_late_total"); n != 1 || err != nil {
		t.Errorf("after Close: %d counts, %v", n, err)
	}
	return page
}

func TestMetrics(t *testing.T) {
	page := day(t, func(*patterns.Bus) {})
	for _, want := range []string{
		`motif_messages_sent_total{destination="orders",error="",operation="publish"} 3`,
		`motif_messages_sent_total{destination="orders",error="",operation="retry"} 1`,
		`motif_messages_sent_total{destination="orders.dead",error="",operation="dead-letter"} 1`,
		`motif_messages_sent_total{destination="small",error="",operation="publish"} 1`,
		`motif_messages_sent_total{destination="small",error="nacked",operation="publish"} 2`,
		`motif_publish_duration_seconds_count{destination="orders",operation="publish"} 1`,
		`motif_messages_settled_total{group="",result="acknowledged",source="orders"} 1`,
		`motif_messages_settled_total{group="",result="dead-lettered",source="orders"} 1`,
		`motif_messages_settled_total{group="",result="requeued",source="orders"} 1`,
		`motif_messages_settled_total{group="",result="retried",source="orders"} 1`,
		`motif_messages_settled_total{group="",result="skipped",source="orders"} 1`,
		`motif_messages_redelivered_total{group="",source="orders"} 1`,
		`motif_handler_duration_seconds_sum{group="",source="orders"} 15`,
		`motif_message_time_in_queue_seconds_count{group="",source="orders"} 3`,
		`motif_call_duration_seconds_sum{error="",function="price"} 1`,
		`motif_serve_duration_seconds_count{error="",function="price"} 1`,
		`motif_workers{group="",source="orders"} 2`,
		`motif_workers_busy{group="",source="orders"} 0`,
		`motif_messages_lost_total 0`,
		`motif_connections_blocked{role="`,
		`motif_reconnects_total{role="`,
	} {
		if !strings.Contains(page, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// What the dashboard asks for is there, with the labels by which it asks.
func TestDashboard(t *testing.T) {
	page := day(t, func(*patterns.Bus) {})
	data, err := os.ReadFile("dashboard.json")
	must(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	must(t, json.Unmarshal(data, &dashboard))
	labels := map[string][]string{} // of each metric on the page
	for line := range strings.Lines(page) {
		m := regexp.MustCompile(`^(motif_\w+)(?:\{(.*)\})? `).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		labels[m[1]] = nil
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			labels[m[1]] = append(labels[m[1]], l[1])
		}
	}
	if len(dashboard.Panels) < 10 || len(labels) < 20 {
		t.Fatalf("%d panels, %d metrics: the search is broken", len(dashboard.Panels), len(labels))
	}
	asked := map[string]bool{}
	for _, p := range dashboard.Panels {
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: past the edge", p.Title)
		}
		for _, target := range p.Targets {
			for _, problem := range check(target.Expr, target.LegendFormat, labels) {
				t.Errorf("%s: %s, in %s", p.Title, problem, target.Expr)
			}
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				asked[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
			}
		}
	}
	for name := range labels { // and what is there, is shown
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if !asked[base] && base != "motif_connections_down" {
			t.Errorf("nothing shows %s", name)
		}
	}
}

var metricName = regexp.MustCompile(`motif_\w+`)

// check returns what a query asks for that is not there.
func check(query, legend string, labels map[string][]string) (problems []string) {
	if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
		problems = append(problems, "brackets do not match")
	}
	var wanted []string
	for _, by := range regexp.MustCompile(`by \(([\w, ]*)\)`).FindAllStringSubmatch(query, -1) {
		wanted = append(wanted, strings.Split(by[1], ", ")...)
	}
	for _, l := range regexp.MustCompile(`(\w+)(?:=~|!=|=)"`).FindAllStringSubmatch(query, -1) {
		wanted = append(wanted, l[1])
	}
	by := slices.Clone(wanted)
	for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		if wanted = append(wanted, l[1]); !slices.Contains(by, l[1]) {
			problems = append(problems, fmt.Sprintf("the legend has %s, which the sum has not", l[1]))
		}
	}
	for _, name := range metricName.FindAllString(query, -1) {
		have, ok := labels[name]
		if !ok {
			problems = append(problems, "no metric "+name)
			continue
		}
		for _, l := range wanted {
			if !slices.Contains(have, l) {
				problems = append(problems, fmt.Sprintf("%s has no label %s", name, l))
			}
		}
	}
	return problems
}

func TestCheckOfQueries(t *testing.T) {
	labels := map[string][]string{"motif_a": {"x", "le"}}
	for query, want := range map[string]int{
		`sum by (x) (rate(motif_a{x="1"}[1m]))`: 0, `rate(motif_b[1m])`: 1, `sum by (y) (motif_a)`: 1, `motif_a{z!="1"}`: 1, `sum(motif_a`: 1,
	} {
		if got := check(query, "", labels); len(got) != want {
			t.Errorf("%s: %q", query, got)
		}
	}
	if len(check("motif_a", "{{x}}", labels)) != 1 {
		t.Error("a legend of what is summed away passes")
	}
}

// Names that a program makes up do not become labels without end.
func TestBoundedLabels(t *testing.T) {
	metrics := prometheus.New()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect(), metrics.Instrument())
		for i := range 1200 {
			must(t, patterns.NewPubSub[int](bus, fmt.Sprint("news-", i)).Publish(t.Context(), 1))
		}
		must(t, bus.Close(context.Background()))
	})
	if n := testutil.CollectAndCount(metrics, "motif_messages_sent_total"); n != 1001 {
		t.Errorf("%d destinations", n)
	}
}

// The docs list every metric.
func TestMetricsAreDocumented(t *testing.T) {
	page := day(t, func(*patterns.Bus) {})
	docs, err := os.ReadFile("../../docs/observability.md")
	must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(string(docs), "`"+m[1]+"`") {
			t.Errorf("docs/observability.md does not list %s", m[1])
		}
	}
}
