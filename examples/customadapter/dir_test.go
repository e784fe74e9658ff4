//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance"
)

func TestConformance(t *testing.T) {
	root := t.TempDir()
	harness := func(ctx context.Context) (*conformance.Harness, error) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			return nil, err
		}
		first, err := open(ctx, &url.URL{Scheme: "dir", Path: dir})
		if err != nil {
			return nil, err
		}
		h := &harness{spool: first.(*driver).spool}
		return &conformance.Harness{
			Connect: h.connect,
			Close:   first.Close,
			Cut:     h.restart, // there is no connection that can break
			Restart: h.restart,
			Depth:   h.depth,
		}, nil
	}
	conformance.Run(t, harness, features)
}

type harness struct {
	spool   *spool
	mu      sync.Mutex
	clients []*driver
}

func (h *harness) connect(context.Context) (adapters.Driver, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.spool.connect(func() error { return nil })
	h.clients = append(h.clients, d)
	return d, nil
}

// restart forgets all that is not in the files, as the next process would.
func (h *harness) restart(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spool.mu.Lock()
	defer h.spool.mu.Unlock()
	for _, d := range h.clients {
		for held := range d.held {
			held.sub.inHand--
		}
		clear(d.held)
		d.lose(adapters.ErrSessionLost)
		d.session, d.lose = context.WithCancelCause(context.Background())
	}
	h.spool.changed.Broadcast()
	return h.spool.load()
}

func (h *harness) depth(_ context.Context, name string) (int, error) {
	h.spool.mu.Lock()
	defer h.spool.mu.Unlock()
	return len(h.spool.waiting[queueFile(name)]), nil
}

var orders = adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Prefetch: 2}

func openDir(t *testing.T, dir string) *driver {
	t.Helper()
	d, err := open(t.Context(), &url.URL{Scheme: "dir", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d.(*driver)
}

// A process that is killed while it publishes and consumes leaves to the next one
// all that was confirmed and not acknowledged, in order.
func TestKilledProcess(t *testing.T) {
	const victim = "MOTIF_TEST_VICTIM"
	ctx := t.Context()
	if dir := os.Getenv(victim); dir != "" { // this is the one to be killed
		d := openDir(t, dir)
		sub, err := d.Subscribe(ctx, orders)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1_000_000 { // the test's timeout, at the latest
			id := fmt.Sprint("m-", i)
			if err := d.Publish(ctx, adapters.Publication{To: orders.Endpoint}, message.NewMessage(id, nil)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("confirmed", id)
			if i < orders.Prefetch { // in hand, and never settled
				if _, err := sub.Receive(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}

	dir := t.TempDir()
	other := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledProcess$", "-test.timeout=1m")
	other.Env = append(os.Environ(), victim+"="+dir)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	var confirmed []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "confirmed "); ok {
			confirmed = append(confirmed, id)
		}
		if len(confirmed) == 30 { // further ones may come until it is dead
			if _, err := open(ctx, &url.URL{Path: dir}); !errors.Is(err, adapters.ErrUnavailable) {
				t.Errorf("opening what another process has open: %v", err)
			}
			if err := other.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = other.Wait() // it was killed
	if len(confirmed) < 30 {
		t.Fatalf("the other process confirmed %d messages only", len(confirmed))
	}

	all := orders
	all.Prefetch = len(confirmed)
	sub, err := openDir(t, dir).Subscribe(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, id := range confirmed {
		got, err := sub.Receive(soon)
		if err != nil {
			t.Fatalf("receiving %s: %v", id, err)
		}
		if got.Message.UUID != id || !got.Redelivered {
			t.Fatalf("got %s, redelivered %t; want %s, true", got.Message.UUID, got.Redelivered, id)
		}
	}
}

// A file that is no message is not skipped: whoever receives is told its name.
func TestUnreadableFile(t *testing.T) {
	ctx, d := t.Context(), openDir(t, t.TempDir())
	sub, err := d.Subscribe(ctx, orders)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(ctx, adapters.Publication{To: orders.Endpoint}, message.NewMessage("a", nil)); err != nil {
		t.Fatal(err)
	}
	file := d.path(d.waiting[queueFile(orders.Name)][0].file)
	if err := os.WriteFile(file, []byte("torn"), 0o666); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := sub.Receive(soon); !errors.Is(err, adapters.ErrUnavailable) || !strings.Contains(err.Error(), file) {
		t.Errorf("receiving what is torn: %v", err)
	}
}
