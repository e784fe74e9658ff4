package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/patterns"
)

// process is the service under way.
type process struct {
	address   string
	interrupt context.CancelFunc
	ended     chan error
	log       *bufio.Scanner
}

func start(t *testing.T, broker string) *process {
	t.Helper()
	reader, writer := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	p := &process{interrupt: interrupt, ended: make(chan error, 1), log: bufio.NewScanner(reader)}
	go func() {
		err := run(ctx, []string{"-broker", broker, "-http", "127.0.0.1:0"}, writer)
		_ = writer.Close()
		p.ended <- err
	}()
	line := p.until(t, "msg=listening")
	p.address = regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(line)[1]
	return p
}

// until returns the next line of the log that has a text in it.
func (p *process) until(t *testing.T, text string) string {
	t.Helper()
	for p.log.Scan() {
		if strings.Contains(p.log.Text(), text) {
			return p.log.Text()
		}
	}
	t.Fatalf("no line of the log has %q", text)
	return ""
}

func (p *process) post(t *testing.T, body io.Reader) int {
	t.Helper()
	return status(t, http.MethodPost, "http://"+p.address+"/orders", body)
}

func status(t *testing.T, method, url string, body io.Reader) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Error(err)
		return 0
	}
	if body != nil {
		r.Header.Set("Expect", "100-continue") // it is read when the service asks for it
	}
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestService(t *testing.T) {
	p := start(t, "memory:")
	for _, c := range []struct {
		body string
		want int
	}{
		{`{"dish": "ramen"}`, http.StatusAccepted},
		{`ramen`, http.StatusBadRequest},
		{`{"dish": "` + strings.Repeat("x", 1<<16) + `"}`, http.StatusBadRequest},
	} {
		if got := p.post(t, strings.NewReader(c.body)); got != c.want {
			t.Errorf("POST of %.20s was answered with %d, want %d", c.body, got, c.want)
		}
	}
	p.until(t, "msg=shipping dish=ramen")
	p.until(t, `msg="message acknowledged"`)
	for _, path := range []string{"/livez", "/readyz"} {
		if got := status(t, http.MethodGet, "http://"+p.address+path, nil); got != http.StatusOK {
			t.Errorf("%s is %d", path, got)
		}
	}
	p.interrupt()
	p.until(t, `msg="shutting down"`)
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// begin begins a request, whose body the service waits for. Finish ends it and returns the status.
func (p *process) begin(t *testing.T, dish string) (finish func() int) {
	t.Helper()
	body, client := io.Pipe()
	answer := make(chan int, 1)
	go func() { answer <- p.post(t, body) }()
	if _, err := io.WriteString(client, `{"dish": `); err != nil { // the service has asked for it
		t.Error(err)
	}
	return func() int {
		if _, err := io.WriteString(client, `"`+dish+`"}`); err != nil {
			t.Error(err)
		}
		_ = client.Close()
		return <-answer
	}
}

// Requests that have begun when Ctrl-C comes are answered, and while there are some the worker goes
// on. What was accepted is shipped, or still in the queue.
func TestShutdownFinishesWhatHasBegun(t *testing.T) {
	const broker = "memory:service"
	other, err := patterns.Open(t.Context(), broker) // keeps the broker, and what is in it
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	p := start(t, broker)

	first, second := p.begin(t, "pho"), p.begin(t, "pad thai")
	p.interrupt()
	p.until(t, `msg="shutting down"`)
	for refused := false; !refused; { // until no other is taken
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", p.address)
		if refused = err != nil; !refused {
			_ = c.Close()
		}
	}
	if got := first(); got != http.StatusAccepted {
		t.Errorf("the first was answered with %d", got)
	}
	p.until(t, "msg=shipping dish=pho")
	if got := second(); got != http.StatusAccepted {
		t.Errorf("the second was answered with %d", got)
	}

	shipped := false
	for p.log.Scan() {
		shipped = shipped || strings.Contains(p.log.Text(), `msg=shipping dish="pad thai"`)
	}
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
	left, err := patterns.NewWorkQueue[Order](other, "service").TryGet(t.Context())
	if waits := err == nil && left.Value.Dish == "pad thai"; waits == shipped {
		t.Errorf("the second is shipped: %v, still in the queue: %v (%v)", shipped, waits, err)
	}
}

// What cannot begin says so, and leaves nothing behind.
func TestAddressInUse(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = run(t.Context(), []string{"-http", l.Addr().String()}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("ended with %v", err)
	}
}
