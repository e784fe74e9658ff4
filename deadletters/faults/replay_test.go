package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/patterns"
)

// site is a broker that can be restarted.
type site struct {
	later   bool // handlers begin after the replay
	open    func(testing.TB) adapters.Driver
	restart func() error
}

func sites() map[string]func(*testing.T) *site {
	onRabbitMQ := func(queueType string, kill, later bool) func(*testing.T) *site {
		return func(t *testing.T) *site {
			node := amqptest.Private(t, amqptest.Options{})
			return &site{
				later: later,
				open: func(t testing.TB) adapters.Driver {
					return open(t, node.URL+"?queue_type="+queueType)
				},
				restart: func() error {
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
					defer cancel()
					end := node.Stop
					if kill {
						end = func(context.Context) error { return errors.Join(node.Flush(ctx), node.Kill()) }
					}
					if err := end(ctx); err != nil {
						return err
					}
					return node.Restart(ctx)
				},
			}
		}
	}
	return map[string]func(*testing.T) *site{
		"memory": func(t *testing.T) *site {
			b := memory.New()
			t.Cleanup(b.Close)
			return &site{
				open:    func(testing.TB) adapters.Driver { return b.Connect() },
				restart: func() error { b.Restart(); return nil },
			}
		},
		"quorum":         onRabbitMQ("quorum", false, false),
		"quorum, killed": onRabbitMQ("quorum", true, false),
		"classic":        onRabbitMQ("classic", false, false),
		// A classic queue forgets in a restart what it has delivered. Where nothing was, what comes
		// twice is there twice.
		"classic, handled later": onRabbitMQ("classic", false, true),
	}
}

func open(t testing.TB, url string) adapters.Driver {
	t.Helper()
	d, err := adapters.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	d.(adapters.LogSetter).SetLogger(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

// count is how many letters there are.
func count(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("MOTIF_DEAD_LETTERS"), "600"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fill makes n dead letters of a queue, and returns their ids.
func fill(t testing.TB, d adapters.Driver, queue string, n int) (ids []string) {
	t.Helper()
	bus := patterns.New(d, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	if err := patterns.NewWorkQueue[string](bus, queue).Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(make([]struct{}, n), 500) {
		var msgs []*message.Message
		for range batch {
			m := message.NewMessage(fmt.Sprintf("m%05d", len(ids)), []byte(`"soup"`))
			ids = append(ids, m.UUID)
			m.Metadata = message.Metadata{
				patterns.HeaderReason: "no spoon", patterns.HeaderQueue: queue, patterns.HeaderAttempts: "5",
				patterns.HeaderDiedAt: time.Now().Format(time.RFC3339Nano),
			}
			msgs = append(msgs, m)
		}
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: queue + ".dead"}}
		p.ContentType = "application/json"
		if err := d.Publish(t.Context(), p, msgs...); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// TestReplayThroughARestart: letters are listed, and all are replayed while handlers run and the
// broker is restarted in the middle. None is lost, and each that is there twice is reported.
func TestReplayThroughARestart(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			d, n := s.open(t), count(t)
			ids := fill(t, d, "orders", n)
			dead := deadletters.New(d, "orders.dead")
			began := time.Now()
			look, err := dead.List(t.Context(), deadletters.Filter{}, adapters.MaxBrowse)
			if err != nil || len(look.Letters) != min(n, adapters.MaxBrowse) || look.Unseen != n-len(look.Letters) {
				t.Fatalf("listed %d, unseen %d, %v", len(look.Letters), look.Unseen, err)
			}
			t.Logf("%s: listed %d of %d in %v", name, len(look.Letters), n, time.Since(began))

			var h *handlers
			if !s.later {
				h = handle(t, s.open(t), "orders")
			}
			var restarting sync.WaitGroup
			done := 0
			began = time.Now()
			report, err := dead.Replay(t.Context(), deadletters.ReplayOptions{Progress: func(*deadletters.Letter, string) {
				if done++; done == n/2 {
					restarting.Go(func() {
						if err := s.restart(); err != nil {
							t.Error(err)
						}
					})
				}
			}})
			restarting.Wait()
			t.Logf("%s: replayed %d in %v with a restart: recognized %d, doubtful %d", name, report.Sent, time.Since(began), report.Recognized, len(report.Doubtful))
			if err != nil || len(report.Failed) > 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			if info, err := d.(adapters.Inspector).Inspect(t.Context(), "orders.dead"); err != nil || info.Ready != 0 {
				t.Fatalf("%d letters are left, %v; %+v", info.Ready, err, report)
			}
			if s.later {
				h = handle(t, s.open(t), "orders")
			}
			h.check(t, ids, report, name != "classic")
		})
	}
}

// handlers note what they handled.
type handlers struct {
	bus *patterns.Bus

	mu      sync.Mutex
	handled map[string]int // messages that had not been delivered before
	seen    map[string]int // all
}

func handle(t testing.TB, d adapters.Driver, queue string) *handlers {
	t.Helper()
	bus := patterns.New(d, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	h := &handlers{bus: bus, handled: map[string]int{}, seen: map[string]int{}}
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	_, err := patterns.NewWorkQueue[string](bus, queue).Work(context.Background(), func(ctx context.Context, _ string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.seen[d.ID]++
		if !d.Redelivered {
			h.handled[d.ID]++
		}
		return nil
	}, patterns.Workers(4))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// still is how long nothing may move before it is taken for lost: a busy machine takes its time.
const still = time.Minute

// check waits until all are handled, and nothing is left that may be there twice.
//
// marked says that the queue marks what it delivers again, which a classic queue forgets in a
// restart: then what handlers get twice may be one message.
func (h *handlers) check(t testing.TB, ids []string, report deadletters.Report, marked bool) {
	t.Helper()
	missing := func() (all []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, id := range ids {
			if h.seen[id] == 0 {
				all = append(all, id)
			}
		}
		return all
	}
	left := func() int {
		info, err := h.bus.Driver().(adapters.Inspector).Inspect(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		return info.Ready
	}
	seen := func() (n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, times := range h.seen {
			n += times
		}
		return n
	}
	before, deadline := 0, time.Now().Add(still)
	for len(missing()) > 0 || left() > 0 {
		if n := seen(); n > before {
			before, deadline = n, time.Now().Add(still)
		}
		if time.Now().After(deadline) {
			t.Fatalf("lost %d: %q; %d are left", len(missing()), missing()[:min(10, len(missing()))], left())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := h.bus.Close(t.Context()); err != nil { // which finishes what is in hand
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	doubles := 0
	for id, n := range h.handled {
		if n < 2 || !marked {
			continue
		}
		doubles++
		if !slices.ContainsFunc(report.Doubtful, func(d deadletters.Doubt) bool { return d.Ref == id }) {
			t.Errorf("%s was there %d times, which is not in the report", id, n)
		}
	}
	t.Logf("lost 0, double %d, listed %d", doubles, len(report.Doubtful))
}
