//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance"
)

func TestConformance(t *testing.T) {
	root := t.TempDir()
	open := func(context.Context) (*conformance.Harness, error) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			return nil, err
		}
		h := &harness{dir: dir}
		return &conformance.Harness{
			Connect: h.connect,
			Cut:     h.cut,
			Restart: h.cut, // there is no broker beside the files
			Depth:   h.depth,
			Delete:  h.delete,
		}, nil
	}
	conformance.Run(t, open, features)
}

type harness struct {
	dir     string
	mu      sync.Mutex
	clients []*driver
}

func (h *harness) connect(ctx context.Context) (adapters.Driver, error) {
	d, err := connect(ctx, h.dir)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients = append(h.clients, d)
	return d, nil
}

// cut makes every client forget what it has in hand.
func (h *harness) cut(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.clients {
		if err := d.forget(); err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) depth(_ context.Context, name string) (n int, err error) {
	q, err := (&driver{dir: h.dir}).queue(name)
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(string(q))
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") || strings.HasSuffix(e.Name(), ".again") {
			n++
		}
	}
	return n, err
}

func (h *harness) delete(_ context.Context, name string) error {
	q, err := (&driver{dir: h.dir}).queue(name)
	if err != nil {
		return err
	}
	return os.RemoveAll(string(q))
}

// forget ends a client's session: what it had in hand is not its any more.
func (d *driver) forget() error {
	d.files.Lock()
	defer d.files.Unlock()
	if d.held == nil {
		return nil
	}
	err := d.giveBack()
	d.lose(adapters.ErrSessionLost)
	d.session, d.lose = context.WithCancelCause(d.closed)
	return err
}

var orders = adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Prefetch: 2}

// What a killed process had in hand is delivered again, in another process and in
// order; what a living one has is not.
func TestKilledProcess(t *testing.T) {
	const held = "MOTIF_TEST_HOLD"
	ctx := t.Context()
	if dir := os.Getenv(held); dir != "" { // this is the one to be killed
		d, err := connect(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := d.Subscribe(ctx, orders)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := sub.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println("holds", got.Message.UUID)
		}
		<-ctx.Done() // the test's timeout, at the latest
	}

	dir := t.TempDir()
	d, err := connect(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(context.Background())
	if err := d.Declare(ctx, orders); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := d.Publish(ctx, adapters.Publication{To: orders.Endpoint}, message.NewMessage(id, nil)); err != nil {
			t.Fatal(err)
		}
	}
	other := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledProcess$", "-test.timeout=1m")
	other.Env = append(os.Environ(), held+"="+dir)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, id := range []string{"a", "b"} {
		for lines.Scan() && lines.Text() != "holds "+id {
		}
		if lines.Text() != "holds "+id {
			t.Fatalf("the other process does not hold %s, and said: %s", id, lines.Text())
		}
	}

	get := func(id string, redelivered bool) {
		t.Helper()
		got, err := d.Get(ctx, orders)
		if err != nil {
			t.Fatalf("getting %s: %v", id, err)
		}
		if got.Message.UUID != id || got.Redelivered != redelivered {
			t.Errorf("got %s, redelivered %t; want %s, %t", got.Message.UUID, got.Redelivered, id, redelivered)
		}
	}
	get("c", false)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	get("a", true)
	get("b", true)
}

// A file that is no message is nobody's, and stays.
func TestUnreadableFile(t *testing.T) {
	ctx := t.Context()
	d, err := connect(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(context.Background())
	q, err := d.declare(ctx, orders)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(q.path("0-x.new"), []byte("torn"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(ctx, adapters.Publication{To: orders.Endpoint}, message.NewMessage("a", nil)); err != nil {
		t.Fatal(err)
	}
	got, err := d.Get(ctx, orders)
	if err != nil || got.Message.UUID != "a" {
		t.Fatalf("got %v, %v; want the message behind the file", got.Message, err)
	}
	if b, err := os.ReadFile(q.path("0-x.bad")); string(b) != "torn" {
		t.Errorf("the file has %q, %v", b, err)
	}
}
