package amqp

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/healthhttp"
)

// A broker that is short of something, or that restarts, does not kill the process: it is live all
// the time, is not ready and says why, and is ready again by itself.
func TestProbesThroughAlarmAndRestart(t *testing.T) {
	t.Parallel() // it waits most of the time
	node := amqptest.Private(t, amqptest.Options{})
	cfg, err := ParseURL(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(driver)
	defer func() {
		if err := bus.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	orders := patterns.NewWorkQueue[string](bus, "orders")
	handled := make(chan string, 100)
	if _, err := orders.Work(t.Context(), func(_ context.Context, s string) error { handled <- s; return nil }); err != nil {
		t.Fatal(err)
	}
	live, ready := healthhttp.Live(bus), healthhttp.Ready(bus)
	probe := func(h http.Handler) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return w.Code, w.Body.String()
	}
	becomes := func(what string, status int, reason string) {
		t.Helper()
		eventually(t, what, func() bool {
			if code, body := probe(live); code != http.StatusOK {
				t.Errorf("%s, and it is not live: %s", what, body)
			}
			code, body := probe(ready)
			return code == status && strings.Contains(body, reason)
		})
	}
	becomes("at first", http.StatusOK, `"broker": "RabbitMQ `)

	if err := node.MemoryAlarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A connection is told that it is blocked when it publishes.
	blocked := make(chan error, 1)
	go func() { blocked <- orders.Send(t.Context(), "through the alarm") }()
	becomes("the broker is short of memory", http.StatusServiceUnavailable, "the broker takes no messages: ")
	if err := node.ClearAlarms(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes("it has memory again", http.StatusOK, "")
	if err := <-blocked; err != nil {
		t.Errorf("what was sent meanwhile: %v", err)
	}
	<-handled

	if err := node.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes("the broker is gone", http.StatusServiceUnavailable, "no connection to the broker, to publish: ")
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes("it is back", http.StatusOK, `"generation": 2`)
	if err := orders.Send(t.Context(), "afterwards"); err != nil {
		t.Error(err)
	}
	for got := range handled {
		if got == "afterwards" {
			break
		}
		if got != "through the alarm" { // which comes again if its acknowledgement came too late
			t.Errorf("handled %q", got)
		}
	}
}
