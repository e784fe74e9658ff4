package onbrokers

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// testService stops the broker under the service and starts it again: its health says so, it takes
// no order that it could not keep, and goes on by itself.
func (p programs) testService(t *testing.T) {
	node := amqptest.Private(t, amqptest.Options{})
	service := p.start(t, "service", "-broker", node.URL, "-http", "127.0.0.1:0")
	service.until(t, "msg=listening")
	url := "http://" + regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(service.out.text())[1]

	awaitStatus(t, http.StatusOK, http.MethodGet, url+"/readyz", "")
	awaitStatus(t, http.StatusAccepted, http.MethodPost, url+"/orders", `{"dish": "ramen"}`)
	service.until(t, "msg=shipping dish=ramen")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := node.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, http.StatusServiceUnavailable, http.MethodGet, url+"/readyz", "")
	if got := status(t, http.MethodPost, url+"/orders", `{"dish": "fugu"}`); got != http.StatusServiceUnavailable {
		t.Errorf("without a broker an order was answered with %d", got)
	}
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, http.StatusOK, http.MethodGet, url+"/readyz", "")
	awaitStatus(t, http.StatusAccepted, http.MethodPost, url+"/orders", `{"dish": "pho"}`)
	service.until(t, "msg=shipping dish=pho")
	if out := service.interrupt(t); !strings.Contains(out, `msg="shutting down"`) || strings.Contains(out, "dish=fugu") {
		t.Errorf("printed:\n%s", out)
	}
}

// awaitStatus asks until the answer is the one that is wanted.
func awaitStatus(t *testing.T, want int, method, url, body string) {
	t.Helper()
	got := 0
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		if got = status(t, method, url, body); got == want {
			return
		}
	}
	t.Fatalf("%s %s is answered with %d, want %d", method, url, got, want)
}

func status(t *testing.T, method, url, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}
