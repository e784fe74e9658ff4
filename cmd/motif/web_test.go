package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// webSite is a motif web that runs as long as the test.
type webSite struct {
	url  string // as it was written
	base string // without the key
	key  string
	end  func() // as Ctrl-C does
}

func startWeb(t testing.TB, args ...string) *webSite {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"web", "-listen", "127.0.0.1:0"}, args...), strings.NewReader(""), in, &lockedWriter{&sync.Mutex{}, &errs})
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("motif web wrote no address: %s", errs.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	end := sync.OnceFunc(func() {
		cancel()
		if got := <-code; got != exitOK {
			t.Errorf("motif web: exit %d after Ctrl-C: %s", got, errs.String())
		}
	})
	t.Cleanup(end)
	base, key, ok := strings.Cut(lines.Text(), "/#")
	if !ok || len(key) < 20 {
		t.Fatalf("motif web wrote %q", lines.Text())
	}
	return &webSite{lines.Text(), base, key, end}
}

// ask sends a request to the page's server, with the key unless it is a header of the request.
func (w *webSite) ask(t testing.TB, method, path, body string, headers map[string]string) (status int, answer string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.key)
	r.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

// soon waits until something is so.
func soon(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(browserPatience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never is")
		}
	}
}

// bury makes a dead letter of a message.
func (s *site) bury(t testing.TB, m *message.Message) {
	t.Helper()
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders.dead"}}
	if err := s.driver.Publish(t.Context(), p, m); err != nil {
		t.Fatal(err)
	}
}

// buryHostile makes dead letters that would take over a page that believed them.
func (s *site) buryHostile(t testing.TB) {
	t.Helper()
	for _, payload := range []string{
		`<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`,
		"\x1b[31mred\x1b]0;owned\a \u202eturned\u2066 \x00\xff",
	} {
		m := message.NewMessage("<b id=owned>hostile</b>", []byte(payload))
		m.Metadata["<i id=owned>"] = "</dd><script>document.title='owned'</script>"
		m.Metadata[patterns.HeaderReason] = "<svg onload=\"document.title='owned'\">\x1b[31m"
		s.bury(t, m)
	}
	s.bury(t, message.NewMessage("large", bytes.Repeat([]byte("<p>x"), 4<<20)))
}

func TestWebRefuses(t *testing.T) {
	s := newSite(t)
	s.three(t)
	site := startWeb(t, "-write")
	const all = `{"queue": "orders.dead", "all": true, "limit": 3}`
	for _, c := range []struct {
		method, path, body string
		headers            map[string]string
		status             int
	}{
		{"GET", "/api/queues", "", nil, http.StatusOK},
		{"GET", "/api/queues", "", map[string]string{"Authorization": ""}, http.StatusUnauthorized},
		{"GET", "/api/dead?queue=orders.dead", "", map[string]string{"Authorization": "Bearer nonsense"}, http.StatusUnauthorized},
		{"GET", "/api/runs", "", map[string]string{"Authorization": "Bearer"}, http.StatusUnauthorized},
		{"POST", "/api/drop", all, map[string]string{"Authorization": ""}, http.StatusUnauthorized},
		{"POST", "/api/drop", all, map[string]string{"Host": "evil.example"}, http.StatusForbidden},
		{"GET", "/", "", map[string]string{"Host": "evil.example:8025"}, http.StatusForbidden},
		{"GET", "/", "", map[string]string{"Host": "127.0.0.1.evil.example"}, http.StatusForbidden},
		{"GET", "/", "", map[string]string{"Host": "localhost:9000"}, http.StatusOK}, // through a tunnel
		{"GET", "/", "", map[string]string{"Host": "[::1]:9000"}, http.StatusOK},
		{"POST", "/api/drop", all, map[string]string{"Origin": "http://evil.example"}, http.StatusForbidden},
		{"POST", "/api/drop", all, map[string]string{"Origin": "null"}, http.StatusForbidden},
		{"POST", "/api/drop", all, map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"POST", "/api/drop", all, map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden}, // another port
		{"POST", "/api/drop", all, map[string]string{"Content-Type": "text/plain"}, http.StatusUnsupportedMediaType},
		{"POST", "/api/drop", "queue=orders.dead", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType},
		{"POST", "/api/drop", "nonsense", nil, http.StatusBadRequest},
		{"POST", "/api/drop", `{"nonsense": 1}`, nil, http.StatusBadRequest},
		{"POST", "/api/drop", `{"queue": "orders.dead", "all": true, ` + strings.Repeat(" ", webMaxBody) + `"limit": 3}`, nil, http.StatusBadRequest},
		{"POST", "/api/drop", `{"queue": "orders.dead", "limit": 3}`, nil, http.StatusBadRequest},
		{"POST", "/api/drop", `{"queue": "orders.dead", "all": true}`, nil, http.StatusBadRequest},
		{"POST", "/api/drop", `{"queue": "orders.dead", "all": true, "refs": ["a"], "limit": 3}`, nil, http.StatusBadRequest},
		{"POST", "/api/replay", `{"queue": "orders.dead", "all": true, "limit": 3, "to": "orders.dead"}`, nil, http.StatusBadRequest},
		{"POST", "/api/replay", `{"queue": "orders.dead", "all": true, "limit": 3, "rate": -1}`, nil, http.StatusBadRequest},
		{"POST", "/api/replay", `{"queue": "orders.dead", "all": true, "limit": 3, "rate": 1e-300}`, nil, http.StatusBadRequest},
		{"POST", "/api/replay", `{"queue": "orders.dead", "all": true, "limit": 3, "reason": "("}`, nil, http.StatusBadRequest},
		{"POST", "/api/stop", `{"id": 7}`, nil, http.StatusNotFound},
		{"GET", "/api/drop", "", nil, http.StatusMethodNotAllowed},
		{"GET", "/api/dead?queue=missing", "", nil, http.StatusNotFound},
		{"GET", "/api/dead", "", nil, http.StatusBadRequest},
		{"GET", "/api/dead?queue=orders.dead&older=-1h", "", nil, http.StatusBadRequest},
		{"GET", "/webpage/index.html", "", nil, http.StatusNotFound},
		{"GET", "/..%2fweb.go", "", nil, http.StatusNotFound},
	} {
		status, answer, header := site.ask(t, c.method, c.path, c.body, c.headers)
		if status != c.status {
			t.Errorf("%s %s %.200s %v: %d, want %d: %.200s", c.method, c.path, c.body, c.headers, status, c.status, answer)
		}
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
			if !strings.Contains(header.Get(name), want) {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, header.Get(name))
			}
		}
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 3 {
		t.Errorf("left %q", got)
	}
}

// TestWebEndsInOrder: Ctrl-C ends what the page began, with each letter in one place.
func TestWebEndsInOrder(t *testing.T) {
	s := newSite(t)
	s.three(t)
	site := startWeb(t, "-write")
	status, answer, _ := site.ask(t, "POST", "/api/replay", `{"queue": "orders.dead", "all": true, "limit": 3, "rate": 0.001}`, nil)
	if status != http.StatusOK {
		t.Fatalf("%d, %s", status, answer)
	}
	soon(t, func() bool { return len(s.waiting(t, "orders")) > 0 })
	site.end()
	if sent, left := s.waiting(t, "orders"), s.waiting(t, "orders.dead"); len(sent) != 1 || len(left) != 2 {
		t.Errorf("sent %q, left %q", sent, left)
	}
}

func TestWebListens(t *testing.T) {
	newSite(t).three(t)
	for _, step := range []step{
		{args: "web -listen 0.0.0.0:0", code: exitUsage, want: []string{"-anywhere"}},
		{args: "web -listen :0", code: exitUsage, want: []string{"-anywhere"}},
		{args: "web -listen nonsense", code: exitUsage, want: []string{"HOST:PORT"}},
		{args: "web -listen 127.0.0.1:0 missing", code: exitFailed, want: []string{"not found"}},
	} {
		step.run(t)
	}
	site := startWeb(t, "-listen", "0.0.0.0:0", "-anywhere")
	if status, answer, _ := site.ask(t, "GET", "/", "", nil); status != http.StatusOK {
		t.Errorf("%d, %s", status, answer)
	}
}
