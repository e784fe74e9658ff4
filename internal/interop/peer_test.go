package interop

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// python is the system's, for which there are packages of its modules.
const python = "/usr/bin/python3"

// module is one of Python's that tests need.
type module struct {
	name, debian string
	find         func() error
}

var (
	pika   = newModule("pika", "python3-pika")
	celery = newModule("celery", "python3-celery")
)

func newModule(name, debian string) *module {
	m := &module{name: name, debian: debian}
	m.find = sync.OnceValue(m.findNow)
	return m
}

// need skips the test if the module is missing, or fails it where tests may not be skipped.
func (m *module) need(t *testing.T) {
	t.Helper()
	if err := m.find(); err != nil {
		if !required() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
}

// findNow returns nil if the system's Python has the module. Where tests may not be
// skipped, as root and on Debian, it installs it.
func (m *module) findNow() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	has := func() error { return exec.CommandContext(ctx, python, "-c", "import "+m.name).Run() }
	err := has()
	if err == nil {
		return nil
	}
	install := "apt-get install --no-install-recommends " + m.debian
	missing := fmt.Errorf("Python's %s is not installed here (%w): run as root: %s", m.name, err, install)
	if !required() || os.Geteuid() != 0 {
		return missing
	}
	command := "export DEBIAN_FRONTEND=noninteractive; try() { " + install + " -y -q -o DPkg::Lock::Timeout=120; }; try || { apt-get update -q; try; }"
	if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil {
		return fmt.Errorf("%w, which failed: %w\n%s", missing, err, out)
	}
	return has()
}

// required reports whether a missing peer is a failure, as it is for a missing
// broker.
func required() bool { return os.Getenv("MOTIF_BROKER") == "require" }

// A peer is a client of the broker that is not ours: see testdata/peer.py.
type peer struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func newPeer(t *testing.T, url string) *peer {
	t.Helper()
	pika.need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := exec.CommandContext(ctx, python, "testdata/peer.py", url)
	cmd.Stderr = t.Output()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := cmp.Or(err1, err2, cmd.Start()); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // the program ends with its input
		if err := cmd.Wait(); err != nil {
			t.Errorf("the peer: %v", err)
		}
		cancel()
	})
	return &peer{in, bufio.NewReader(out)}
}

// with is what the peer is given.
type with map[string]any

// begin has the peer do something, and returns a function that waits for it
// and puts the result into into, if that is not nil.
func (p *peer) begin(do string, args with) func(into any) error {
	args = maps.Clone(args)
	if args == nil {
		args = with{}
	}
	args["do"] = do
	line, err := json.Marshal(args)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	return func(into any) error {
		if err != nil {
			return err
		}
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			return err
		}
		var answer struct {
			Result json.RawMessage
			Error  string
		}
		if err = json.Unmarshal(line, &answer); err == nil && answer.Error != "" {
			err = errors.New(answer.Error)
		}
		if err == nil && into != nil {
			err = json.Unmarshal(answer.Result, into)
		}
		return err
	}
}

// do is begin that waits, and must succeed.
func (p *peer) do(t *testing.T, do string, args with) {
	t.Helper()
	p.ask(t, do, args, nil)
}

func (p *peer) ask(t *testing.T, do string, args with, into any) {
	t.Helper()
	if err := p.begin(do, args)(into); err != nil {
		t.Fatalf("the peer's %s %v: %v", do, args, err)
	}
}

// seen is a message as the peer gets it: as it is on the wire.
type seen struct {
	Exchange, Key string
	Redelivered   bool
	Body          []byte
	Mine          bool // the reply to a call has its correlation id
	Properties    properties
}

// properties are those that AMQP has.
type properties struct {
	ContentType   string         `json:"content_type"`
	Encoding      string         `json:"content_encoding"`
	Headers       map[string]any `json:"headers"`
	DeliveryMode  int            `json:"delivery_mode"`
	Priority      int            `json:"priority"`
	CorrelationID string         `json:"correlation_id"`
	ReplyTo       string         `json:"reply_to"`
	Expiration    string         `json:"expiration"`
	MessageID     string         `json:"message_id"`
	Timestamp     int64          `json:"timestamp"`
	Type          string         `json:"type"`
	UserID        string         `json:"user_id"`
	AppID         string         `json:"app_id"`
	ClusterID     string         `json:"cluster_id"`
}

func (p *peer) get(t *testing.T, queue string) seen {
	t.Helper()
	var s seen
	p.ask(t, "get", with{"queue": queue}, &s)
	return s
}

// publish sends a body with properties.
func (p *peer) publish(t *testing.T, exchange, key, body string, properties with) {
	t.Helper()
	p.do(t, "publish", with{"exchange": exchange, "key": key, "body": []byte(body), "props": properties})
}
