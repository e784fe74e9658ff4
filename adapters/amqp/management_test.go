package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// managing returns a driver that has no broker, and whose management API is h.
func managing(t *testing.T, log *bytes.Buffer, h http.HandlerFunc) *Driver {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	d := &Driver{tasks: kit.NewTasks(), cfg: Config{
		VHost: "a/b", Management: server.URL + "/", Logger: slog.New(slog.NewTextHandler(log, nil)),
		Credentials: func(context.Context) (Credentials, error) {
			return Credentials{Username: "user", Password: NewSecret(password)}, nil
		},
	}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { d.stop(); d.tasks.Close(); d.tasks.Wait() })
	d.management = newManagement(d)
	return d
}

func TestManagementErrors(t *testing.T) {
	for name, x := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"wrong password": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, adapters.ErrAccess},
		"no right":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, adapters.ErrAccess},
		"no queue":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, adapters.ErrNotFound},
		"down":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, adapters.ErrUnavailable},
		"no JSON":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, adapters.ErrUnavailable},
		"elsewhere":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, adapters.ErrUnavailable},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`[{"source":"` + strings.Repeat("x", managementMost) + `"}]`))
		}, adapters.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			asked := 0
			d := managing(t, &log, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if user, secret, _ := r.BasicAuth(); user != "user" || secret != password {
					t.Errorf("it is asked by %q", user)
				}
				if want := "/api/queues/a%2Fb/c%2Fd/bindings"; r.URL.EscapedPath() != want && name != "elsewhere" {
					t.Errorf("%q is asked for, not %q", r.URL.EscapedPath(), want)
				}
				x.answer(w, r)
			})
			_, err := d.management.bindings(ctx, "c/d")
			wantErr(t, "bindings", err, x.want)
			if asked != 1 || strings.Contains(fmt.Sprintf("%+v", err)+log.String(), "s3cr") {
				t.Errorf("asked %d times: %v", asked, err)
			}
		})
	}
}

func TestManagementPages(t *testing.T) {
	const total = 250
	d := managing(t, new(bytes.Buffer), func(w http.ResponseWriter, r *http.Request) {
		page := 0
		_, _ = fmt.Sscan(r.FormValue("page"), &page)
		if page == 3 { // by now there are fewer
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var items []string
		for i := (page - 1) * managementPage; i < page*managementPage; i++ {
			items = append(items, fmt.Sprintf(`{"name":"q%d"}`, i))
		}
		_, _ = fmt.Fprintf(w, `{"page_count":%d,"items":[%s]}`, (total+managementPage-1)/managementPage, strings.Join(items, ","))
	})
	n := 0
	err := d.management.queues(ctx, func(q adapters.QueueInfo) bool {
		if want := (adapters.QueueInfo{Name: fmt.Sprint("q", n), Ready: -1, Unacked: -1, Consumers: -1}); q != want {
			t.Errorf("%+v, want %+v", q, want)
		}
		n++
		return true
	})
	if err != nil || n != 2*managementPage {
		t.Errorf("%d queues, %v", n, err)
	}
}

// TestManagementSilence: that it does not answer is said once, and what it knows is unknown then.
func TestManagementSilence(t *testing.T) {
	var log bytes.Buffer
	d := managing(t, &log, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for range 3 {
		q := adapters.QueueInfo{Name: "q", Ready: 1, Unacked: -1}
		d.management.complete(ctx, &q)
		if q.Unacked != -1 || !q.Oldest.IsZero() {
			t.Errorf("%+v", q)
		}
	}
	if n := strings.Count(log.String(), "no answer"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

func TestManagementIsBounded(t *testing.T) {
	d := managing(t, new(bytes.Buffer), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := d.management.bindings(short, "q")
	wantErr(t, "with a ctx that ends", err, context.DeadlineExceeded)
	time.AfterFunc(50*time.Millisecond, d.stop)
	_, err = d.management.bindings(ctx, "q")
	wantErr(t, "while the driver is closed", err, adapters.ErrClosed)
}

func TestManagementURL(t *testing.T) {
	for raw, good := range map[string]bool{
		"http://localhost:15672": true, "https://broker.example.com/prefix/": true, "http://allowed:1": true,
		"http://broker.example.com": false, "ftp://localhost": false, "localhost:15672": false, "http://user:s3cret@localhost": false,
		"http://localhost?a=s3cret": false, "http://": false, "http://localhost:s3cret": false,
	} {
		_, err := Config{Addresses: []string{"localhost"}, Management: raw, AllowInsecure: []string{"allowed"}}.withDefaults()
		if good != (err == nil) || err != nil && (!errors.Is(err, adapters.ErrInvalid) || strings.Contains(err.Error(), "s3cr")) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
