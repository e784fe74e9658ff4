//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until a condition holds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const late = 2 * time.Minute // also for a machine that is busy
	for deadline := time.Now().Add(late); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", late, what)
		}
	}
}

// logTo returns a logger that writes into the test's log, until it ends.
func logTo(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() { w.mu.Lock(); defer w.mu.Unlock(); w.over = true })
	return slog.New(slog.NewTextHandler(w, nil))
}

type testWriter struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// trial is a box in a database of its own, a bus on a broker in the process, and a relay.
type trial struct {
	*testing.T
	db     *sql.DB
	box    *Box
	broker *memory.Broker
	bus    *patterns.Bus
}

func newTrial(t *testing.T, db *sql.DB, d Dialect, c Config, opts ...patterns.BusOption) *trial {
	t.Helper()
	if c.Logger == nil {
		c.Logger = logTo(t)
	}
	box, err := New(db, d, c)
	must(t, err)
	must(t, box.Migrate(t.Context()))
	broker := memory.New()
	bus := patterns.New(broker.Connect(), append(opts, patterns.WithLogger(logTo(t)))...)
	t.Cleanup(func() { must(t, bus.Close(context.Background())) })
	return &trial{t, db, box, broker, bus}
}

// relay starts a relay, which stops with the test or when stop is called.
func (x *trial) relay() (stop func()) {
	x.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- x.box.Run(ctx, x.bus) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			x.Error(err)
		}
	})
	x.Cleanup(stop)
	return stop
}

func (x *trial) pending() int {
	x.Helper()
	s, err := x.box.Stats(x.Context())
	must(x, err)
	return int(s.Pending)
}

// received collects what a queue delivers.
func received[T any](x *trial, q *patterns.WorkQueue[T]) func() []T {
	x.Helper()
	var mu sync.Mutex
	var got []T
	sub, err := q.Work(context.Background(), func(_ context.Context, v T) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, v)
		return nil
	})
	must(x, err)
	x.Cleanup(func() { must(x, sub.Stop(context.Background())) })
	return func() []T { mu.Lock(); defer mu.Unlock(); return append([]T(nil), got...) }
}
