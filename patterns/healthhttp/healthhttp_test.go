package healthhttp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/healthhttp"
)

// reporting is a driver with a connection that is as a test says.
type reporting struct {
	*memory.Client
	connection *adapters.Connection
}

func (r reporting) Health() adapters.Health {
	return adapters.Health{Connections: []adapters.Connection{*r.connection}}
}

// get asks one of the handlers.
func get(t *testing.T, h http.Handler) (status int, report healthhttp.Report, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("the content type is %q", got)
	}
	body = w.Body.String()
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Errorf("the body is %q: %v", body, err)
	}
	if report.OK != (w.Code == http.StatusOK) {
		t.Errorf("ok is %v with status %d", report.OK, w.Code)
	}
	return w.Code, report, body
}

func TestProbes(t *testing.T) {
	lost := func(c *adapters.Connection) { c.Up, c.LastError = false, adapters.ErrSessionLost }
	blocked := func(c *adapters.Connection) { c.Blocked, c.BlockedReason = true, "low on memory" }
	for name, c := range map[string]struct {
		harm        func(*adapters.Connection)
		live, ready int
		reason      string
	}{
		"well":              {live: 200, ready: 200},
		"connection lost":   {harm: lost, live: 200, ready: 503, reason: "no connection to the broker"},
		"publisher blocked": {harm: blocked, live: 200, ready: 503, reason: "low on memory"},
	} {
		t.Run(name, func(t *testing.T) {
			connection := adapters.Connection{Role: "publish", Up: true, Generation: 1}
			bus := patterns.New(reporting{memory.New().Connect(), &connection})
			defer bus.Close(t.Context())
			live, ready := healthhttp.Live(bus), healthhttp.Ready(bus)
			if c.harm != nil {
				c.harm(&connection)
			}
			liveStatus, report, _ := get(t, live)
			readyStatus, _, _ := get(t, ready)
			if liveStatus != c.live || readyStatus != c.ready {
				t.Errorf("live %d, ready %d; want %d, %d", liveStatus, readyStatus, c.live, c.ready)
			}
			if c.reason != "" && (len(report.Problems) != 1 || !strings.Contains(report.Problems[0].Reason, c.reason)) {
				t.Errorf("problems: %+v", report.Problems)
			}
			connection = adapters.Connection{Role: "publish", Up: true, Generation: 2}
			if status, _, body := get(t, ready); status != http.StatusOK {
				t.Errorf("it has not recovered: %s", body)
			}
		})
	}
}

func TestProbesNameASubscriptionThatEnded(t *testing.T) {
	broker := memory.New()
	bus := patterns.New(broker.Connect())
	defer bus.Close(t.Context())
	live, ready := healthhttp.Live(bus), healthhttp.Ready(bus)
	orders := patterns.NewWorkQueue[string](bus, "orders", patterns.Passive())
	if err := patterns.NewWorkQueue[string](bus, "orders").Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub, err := orders.Work(t.Context(), func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.DeleteQueue("orders"); err != nil {
		t.Fatal(err)
	}
	<-sub.Done()
	for _, h := range []http.Handler{live, ready} {
		if status, _, body := get(t, h); status != http.StatusServiceUnavailable || !strings.Contains(body, `work queue \"orders\" has ended`) {
			t.Errorf("%d: %s", status, body)
		}
	}
}

func TestProbesNameALateHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := patterns.New(memory.New().Connect())
		defer bus.Close(t.Context())
		live := healthhttp.Live(bus)
		orders := patterns.NewWorkQueue[string](bus, "orders")
		stuck := make(chan struct{})
		_, err := orders.Work(t.Context(), func(context.Context, string) error { <-stuck; return nil }, patterns.HandlerTimeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := orders.Send(t.Context(), "ramen", patterns.MessageID("7")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if status, report, body := get(t, live); status != http.StatusServiceUnavailable || !strings.Contains(report.Problems[0].Reason, `with message "7"`) {
			t.Errorf("%d: %s", status, body)
		}
		close(stuck)
		synctest.Wait()
		if status, _, body := get(t, live); status != http.StatusOK {
			t.Errorf("once it has returned %d: %s", status, body)
		}
	})
}
