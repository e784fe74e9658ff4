package onbrokers

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestQuickstart runs the README's program with other URLs: on RabbitMQ it does what it does in
// process, and elsewhere it prints one line that says what is wrong and what to do.
func TestQuickstart(t *testing.T) {
	program := quickstart(t)
	broker, err := url.Parse(amqptest.Private(t, amqptest.Options{}).URL)
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	closed := listen()
	_ = closed.Close()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	as := func(user, host string) string { return "amqp://" + user + "@" + host }
	for name, c := range map[string]struct{ url, says string }{
		"a closed port":      {as("guest:guest", closed.Addr().String()), "is RabbitMQ running, and is that its port?"},
		"an HTTP server":     {as("guest:guest", web.Listener.Addr().String()), "an HTTP server answers there: RabbitMQ's port is 5672"},
		"a TLS port":         {as("guest:guest", secure.Listener.Addr().String()), "HTTP"},
		"a port without TLS": {"amqps://guest:guest@" + broker.Host, "no TLS is spoken there: use amqp://"},
		"a silent port":      {as("guest:guest", listen().Addr().String()), "accepts connections there and says nothing"},
		"a wrong vhost":      {as("guest:guest", broker.Host) + "/nowhere", `is there a vhost "nowhere"`},
		"a wrong password":   {as("guest:s3cret", broker.Host), "check name and password"},
		"compose":            {as("guest:guest", "rabbitmq:5672"), "insecure_host=rabbitmq"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := program.run(t, c.url)
			if line := strings.TrimSuffix(out, "\n"); err == nil || !strings.Contains(line, c.says) || strings.ContainsAny(line, "\n") || strings.Contains(line, "s3cret") {
				t.Errorf("printed %q (%v), want one line that says %q", out, err, c.says)
			}
		})
	}
	t.Run("the broker", func(t *testing.T) {
		t.Parallel()
		if out, _ := program.run(t, as("guest:guest", broker.Host)); !strings.HasSuffix(out, "shipping pad thai\ndone\n") { // after what is logged
			t.Errorf("printed %q", out)
		}
	})
}

// aProgram is the path of one that takes a URL.
type aProgram string

// quickstart builds the README's program for any URL.
func quickstart(t *testing.T) aProgram {
	t.Helper()
	text, err := os.ReadFile("../../quickstart/main.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	changed := strings.NewReplacer(`adapters/memory"`, `adapters/amqp"`, `"memory:"`, `os.Args[1]`, `"os/signal"`, "\"os\"\n\t\"os/signal\"").Replace(string(text))
	if err := os.WriteFile(source, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return aProgram(program)
}

// run returns what the program printed, which is interrupted once it has shipped something.
func (p aProgram) run(t *testing.T, url string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(p), url)
	out := &interrupting{process: func() error { return cmd.Process.Signal(os.Interrupt) }}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	return out.text.String(), err
}

// interrupting presses Ctrl-C after the first line of a program that goes on.
type interrupting struct {
	text    bytes.Buffer // not embedded: its ReadFrom would go before Write
	process func() error
	pressed bool
}

func (w *interrupting) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if !w.pressed && bytes.Contains(w.text.Bytes(), []byte("shipping")) { // wherever a read of the pipe ends
		w.pressed = true
		err = w.process()
	}
	return n, err
}
