package faults

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/patterns"

	"github.com/motifmq/motif/conformance/trial"
)

// TestTakeout kills the example of a whole system with -9 in the middle, and starts it again: each
// service handles every order, of both runs. Who counts is none of theirs.
func TestTakeout(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), trial.Patience)
	defer cancel()
	program := filepath.Join(t.TempDir(), "takeout")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "..", "examples", "takeout")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	a := newAudit(ctx, t, n)
	takeout := func(fail bool) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, "-broker", n.URL(), "-scale", "0.2")
		if fail {
			cmd.Args = append(cmd.Args, "-fail", "merchant")
		}
		cmd.Stderr = os.Stderr
		return cmd
	}

	killed := takeout(true) // and all that it owes to one service waits
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	a.wait(ctx, t, "half of the orders are placed", func() bool { return len(a.placed) > 150 })
	_ = killed.Process.Kill()
	_ = killed.Wait() // it was killed
	before := a.count()
	if before >= 300 {
		t.Errorf("%d orders were placed: it was not killed in the middle", before)
	}

	again := takeout(false)
	out, err := again.StdoutPipe()
	if err == nil {
		err = again.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var summary string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if text := lines.Text(); strings.HasPrefix(text, "takeout: ") {
			summary = text
		}
	}
	const want = "takeout: orders=300 rider=300 merchant=300 ledger=300 lost=0 "
	if err := again.Wait(); err != nil || !strings.HasPrefix(summary, want) {
		t.Errorf("the second run: %v, and it says %q, not %q", err, summary, want)
	}
	// What it did not get to before it ended is done by one service more.
	for _, name := range services {
		a.serve(ctx, t, name)
	}
	a.wait(ctx, t, "every order is handled by every service", func() bool { return a.left() == 0 })
	if got := a.count(); got < before+300 {
		t.Errorf("%d orders were placed, and %d of them before it was killed", got, before)
	}
	t.Logf("%d orders were placed, %d of them before it was killed; %d of %d were handled twice", a.count(), before, a.repeats, 3*a.count())
}

var services = []string{"rider", "merchant", "ledger"}

// placed and done are what the example publishes.
type placed struct {
	Run   string `json:"run"`
	Order struct {
		ID string `json:"id"`
	} `json:"order"`
}

type done struct {
	Run     string `json:"run"`
	Service string `json:"service"`
	OrderID string `json:"order_id"`
}

// audit sees all events, as a group of its own.
type audit struct {
	events *patterns.PubSub[placed]
	news   chan struct{}

	mu      sync.Mutex
	placed  map[string]bool // by run and order
	handled map[string]bool // by service, too
	repeats int
}

func newAudit(ctx context.Context, t *testing.T, n *node.Node) *audit {
	t.Helper()
	d, err := adapters.Open(ctx, n.URL())
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(d)
	t.Cleanup(func() {
		if err := bus.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	a := &audit{events: patterns.NewPubSub[placed](bus, "order-placed"), news: make(chan struct{}, 1), placed: map[string]bool{}, handled: map[string]bool{}}
	_, err = a.events.Subscribe(ctx, func(_ context.Context, p placed) error {
		a.note(func() { a.placed[p.Run+" "+p.Order.ID] = true })
		return nil
	}, patterns.Group("audit"), patterns.Workers(20))
	if err == nil {
		_, err = patterns.NewPubSub[done](bus, "order-done").Subscribe(ctx, func(_ context.Context, d done) error {
			a.note(func() { a.handle(d) })
			return nil
		}, patterns.Group("audit"), patterns.Workers(20))
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *audit) note(f func()) {
	a.mu.Lock()
	f()
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

func (a *audit) handle(d done) {
	what := d.Service + " " + d.Run + " " + d.OrderID
	if a.handled[what] {
		a.repeats++
	}
	a.handled[what] = true
}

// serve handles what a service has left, as one of its processes.
func (a *audit) serve(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	_, err := a.events.Subscribe(ctx, func(_ context.Context, p placed) error {
		a.note(func() { a.handle(done{Run: p.Run, Service: name, OrderID: p.Order.ID}) })
		return nil
	}, patterns.Group(name))
	if err != nil {
		t.Fatal(err)
	}
}

func (a *audit) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.placed)
}

// left returns how much is placed and not handled. The mutex is held.
func (a *audit) left() (n int) {
	for what := range a.placed {
		for _, name := range services {
			if !a.handled[name+" "+what] {
				n++
			}
		}
	}
	return n
}

func (a *audit) wait(ctx context.Context, t *testing.T, what string, over func() bool) {
	t.Helper()
	for {
		a.mu.Lock()
		isOver, count, left := over(), len(a.placed), a.left()
		a.mu.Unlock()
		if isOver {
			return
		}
		select {
		case <-a.news:
		case <-time.After(10 * time.Second):
			t.Logf("%s: %d are placed, %d left", what, count, left)
		case <-ctx.Done():
			t.Fatalf("%s: %v; %d are placed, %d left", what, ctx.Err(), count, left)
		}
	}
}
