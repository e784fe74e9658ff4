package topology

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// A mover is a process that moves a queue, to be killed with -9. It is this test program, told by
// this variable before which step to stand still, or "never".
const stopVar = "MOTIF_TOPOLOGY_STOP"

type moverTask struct {
	URL, Queue string
	Topology   Topology
}

// beMover moves a queue, says each step on a line of its own, and then "done".
func beMover() {
	var task moverTask
	err := json.NewDecoder(os.Stdin).Decode(&task)
	if err == nil {
		err = task.run(os.Getenv(stopVar))
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

func (task moverTask) run(stop string) error {
	ctx := context.Background()
	d, err := adapters.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	return task.Topology.Migrate(ctx, d, task.Queue, func(step string) {
		fmt.Println(step)
		if strings.HasPrefix(step, stop) {
			select {}
		}
	})
}

// runMover runs one, kills it a while after a line with this prefix, or lets it come to its end.
func runMover(t *testing.T, task moverTask, stop, kill string, after time.Duration) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), stopVar+"="+stop)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, killed := "", false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last = lines.Text(); !killed && strings.HasPrefix(last, kill) {
			killed = true
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	if strings.HasPrefix(last, "failed") || killed == (last == "done") && kill != "done" {
		t.Fatalf("a mover that was to be killed at %q ended with %q", kill, last)
	}
}

// traffic is publishers who send their own numbers, one after the other.
type traffic struct {
	sent   []atomic.Int64
	errs   atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type numbered struct{ Publisher, N int64 }

// publish starts publishers that send at the rate together.
func publish(t *testing.T, send func(context.Context, numbered) error) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{sent: make([]atomic.Int64, publishers+1), cancel: cancel}
	tr.sent[publishers].Store(int64(waiting))
	for p := range publishers {
		tr.wg.Go(func() {
			pace := time.NewTicker(publishers * time.Second / time.Duration(rate))
			defer pace.Stop()
			for ctx.Err() == nil {
				if err := send(context.WithoutCancel(ctx), numbered{int64(p), tr.sent[p].Load()}); err != nil {
					tr.errs.Add(1)
					t.Errorf("publisher %d: %v", p, err)
					return
				}
				tr.sent[p].Add(1)
				<-pace.C
			}
		})
	}
	t.Cleanup(tr.stop)
	return tr
}

func (tr *traffic) stop() {
	tr.cancel()
	tr.wg.Wait()
}

func (tr *traffic) total() (n int64) {
	for p := range tr.sent {
		n += tr.sent[p].Load()
	}
	return n
}

// steps are those of a work queue's move, in their order.
var steps = []string{"divert", "cut", "empty", "delete", "declare", "return", "follow", "hold", "switch", "clean up"}

// TestMigrateSurvivesKills: a classic queue that is published to all the time becomes a quorum
// queue, by processes that are killed with -9 before each step, and again in the middle of it. That
// of a work queue keeps its order; in that of a group the last ones that were diverted may come
// late.
func TestMigrateSurvivesKills(t *testing.T) {
	t.Run("work queue", func(t *testing.T) {
		const queue = "orders"
		workQueue := func(b *patterns.Bus) *patterns.WorkQueue[numbered] {
			return patterns.NewWorkQueue[numbered](b, queue, patterns.NoDeadLetter())
		}
		trial := &killTrial{
			queue: queue, parameters: "&migrating=" + queue, steps: steps, inOrder: true,
			declare: func(ctx context.Context, b *patterns.Bus) error { return workQueue(b).Declare(ctx) },
			send: func(ctx context.Context, b *patterns.Bus, values ...numbered) error {
				if len(values) == 1 {
					return workQueue(b).Send(ctx, values[0])
				}
				return workQueue(b).SendBatch(ctx, values)
			},
		}
		trial.run(t)
	})
	t.Run("group", func(t *testing.T) {
		topic := func(b *patterns.Bus) *patterns.Topic[numbered] { return patterns.NewTopic[numbered](b, "placed") }
		trial := &killTrial{
			queue: "placed:merchant", steps: []string{"prepare", "cut", "delete", "follow", "switch", "clean up"},
			declare: func(ctx context.Context, b *patterns.Bus) error {
				return topic(b).Declare(ctx, []string{"eu.*", "*.berlin"}, patterns.Group("merchant"), patterns.NoDeadLetter())
			},
			send: func(ctx context.Context, b *patterns.Bus, values ...numbered) error {
				return topic(b).PublishBatch(ctx, "eu.berlin", values)
			},
		}
		trial.run(t)
	})
}

// killTrial is a queue that is moved.
type killTrial struct {
	queue      string
	parameters string // of the publishers' URL
	steps      []string
	inOrder    bool
	declare    func(context.Context, *patterns.Bus) error
	send       func(context.Context, *patterns.Bus, ...numbered) error
}

const (
	patience   = 10 * time.Minute // publishers wait as long as it takes to begin again after a kill
	publishers = 16
)

// How many messages a second are published, and how many of one more publisher wait at first, so
// that to move them takes a while. MOTIF_MIGRATE=full makes it a thousand, and ten thousand.
var rate, waiting = 250, 2_000

func init() {
	if os.Getenv("MOTIF_MIGRATE") == "full" {
		rate, waiting = 1_000, 10_000
	}
}

func (x *killTrial) run(t *testing.T) {
	ctx := t.Context()
	v := amqptest.Shared(t)
	top, err := Of(ctx, x.declare)
	if err != nil {
		t.Fatal(err)
	}
	old := open(t, v.URL+"?queue_type=classic")
	if err := x.declare(ctx, old); err != nil {
		t.Fatal(err)
	}
	values := make([]numbered, waiting)
	for i := range values {
		values[i] = numbered{publishers, int64(i)}
	}
	if err := x.send(ctx, old, values...); err != nil {
		t.Fatal(err)
	}
	d := open(t, v.URL).Driver()
	if x.parameters != "" {
		if err := top.Prepare(ctx, d, x.queue); err != nil {
			t.Fatal(err)
		}
	}
	bus, begun := open(t, v.URL+"?queue_type=classic&heartbeat=1m"+x.parameters), time.Now()
	tr := publish(t, func(ctx context.Context, n numbered) error { return x.send(ctx, bus, n) })
	await(t, func() bool { return tr.total() > int64(waiting+rate) })

	task := moverTask{URL: v.URL, Queue: x.queue, Topology: top}
	for i, step := range x.steps {
		runMover(t, task, step, step, 0)
		runMover(t, task, "never", step, time.Duration(20+70*i)*time.Millisecond)
	}
	runMover(t, task, "never", "done", time.Hour)
	after := tr.total()
	await(t, func() bool { return tr.total() > after+100 })
	tr.stop()
	t.Logf("%d messages in %v besides those that waited, %d kills, %d errors of publishers", tr.total()-int64(waiting), time.Since(begun).Round(time.Millisecond), 2*len(x.steps), tr.errs.Load())
	if report, err := top.Check(ctx, d); err != nil || !report.OK() {
		t.Errorf("after it all: %q, %v", findings(report), err)
	}
	checkAll(t, d, x.queue, tr, x.inOrder)
}

func open(t *testing.T, url string) *patterns.Bus {
	t.Helper()
	bus, err := patterns.Open(t.Context(), url, patterns.WithLogger(slog.New(slog.DiscardHandler)), patterns.PublishTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return bus
}

// checkAll takes everything out of a queue: each message, by each publisher's order. It waits as
// long as something comes.
func checkAll(t *testing.T, d adapters.Driver, queue string, tr *traffic, inOrder bool) {
	t.Helper()
	source := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Passive: true, Prefetch: 1000}
	sub, err := d.Subscribe(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Stop()
	var twice, early []numbered
	next := make([]int64, len(tr.sent))
	seen := map[numbered]bool{}
	quiet := patience
	for {
		ctx, cancel := context.WithTimeout(t.Context(), quiet)
		m, err := sub.Receive(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var n numbered
		if err := errors.Join(json.Unmarshal(m.Message.Payload, &n), m.Settle(t.Context(), adapters.Ack)); err != nil {
			t.Fatal(err)
		}
		switch {
		case seen[n]:
			twice = append(twice, n)
			continue
		case n.N != next[n.Publisher]:
			early = append(early, n)
		}
		seen[n], next[n.Publisher] = true, n.N+1
		if int64(len(seen)) == tr.total() {
			quiet = time.Second // for copies
		}
	}
	t.Logf("got %d of %d; twice %d: %v; out of order %d: %v", len(seen), tr.total(), len(twice), twice[:min(10, len(twice))], len(early), early[:min(10, len(early))])
	if lost := tr.total() - int64(len(seen)); lost != 0 {
		t.Errorf("lost: %d", lost)
	}
	if inOrder && len(early) > 0 {
		t.Errorf("out of order: %d", len(early))
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it takes too long")
		}
	}
}

// TestMigrateIsRefused: what an adapter cannot do, and what nobody declares.
func TestMigrateIsRefused(t *testing.T) {
	top := Topology{Queues: []Queue{{Name: "q"}}}
	r := &recorder{}
	if err := top.Migrate(t.Context(), r, "q", nil); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("by an adapter that cannot: %v", err)
	}
	if err := top.Migrate(t.Context(), r, "p", nil); !errors.Is(err, adapters.ErrInvalid) {
		t.Errorf("a queue that is not declared: %v", err)
	}
}
