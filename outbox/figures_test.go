//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestFigures measures, if MOTIF_OUTBOX_FIGURES is set, how many rows the relay moves in a second
// to RabbitMQ, beside a database that writes to the disk for sure, and how much later than without
// an outbox a message is handled.
func TestFigures(t *testing.T) {
	if os.Getenv("MOTIF_OUTBOX_FIGURES") == "" {
		t.Skip("figures: MOTIF_OUTBOX_FIGURES=1 go test -run TestFigures -v ./outbox")
	}
	for _, d := range []Dialect{PostgreSQL, MySQL, SQLite} {
		t.Run(d.String(), func(t *testing.T) {
			var driver, dsn string
			if d == SQLite {
				driver, dsn = newDatabase(t, d)
				dsn = strings.Replace(dsn, "_synchronous=NORMAL", "_synchronous=FULL", 1)
			} else {
				driver, dsn = ownServer(t, d, true).create(t)
			}
			x := newTrial(t, open(t, driver, dsn), d, Config{})
			must(t, x.bus.Close(context.Background()))
			var err error
			x.bus, err = patterns.Open(t.Context(), amqptest.Shared(t).URL)
			must(t, err)
			t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
			x.throughput()
			x.latency()
		})
	}
}

func (x *trial) throughput() {
	q := patterns.NewWorkQueue[string](x.bus, "throughput")
	const rows, together = 50_000, 500
	values := make([]string, together)
	for i := range values {
		values[i] = "an order of some two hundred bytes: " + string(make([]byte, 30))
	}
	for range rows / together {
		must(x, x.box.Do(x.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.SendBatch(ctx, values) }))
	}
	start, cpu := time.Now(), cpuTime(x)
	stop := x.relay()
	await(x, "all sent", func() bool { return x.box.sent.Load() >= rows })
	took := time.Since(start)
	used := cpuTime(x) - cpu
	stop()
	x.Logf("%v: %d rows relayed in %v: %.0f rows/s, with %v of this process's CPU time", x.box.dialect, rows, took.Round(time.Millisecond), rows/took.Seconds(), used)
}

// cpuTime is what this process has used, which says more than the clock on a busy machine.
func cpuTime(x *trial) time.Duration {
	var u syscall.Rusage
	must(x, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (x *trial) latency() {
	q := patterns.NewWorkQueue[time.Time](x.bus, "latency")
	handled, all := make(chan time.Time, 1), map[string][]time.Duration{}
	sub, err := q.Work(context.Background(), func(context.Context, time.Time) error {
		handled <- time.Now()
		return nil
	})
	must(x, err)
	defer x.relay()()
	measure := func(name string, n int, before time.Duration, send func() (time.Time, error)) {
		for range n {
			time.Sleep(before)
			since, err := send()
			must(x, err)
			all[name] = append(all[name], (<-handled).Sub(since))
		}
	}
	plain := func() (time.Time, error) {
		start := time.Now()
		return start, q.Send(context.Background(), start)
	}
	// From the commit on: the transaction is the program's own in any case.
	committed := func(wake bool) func() (time.Time, error) {
		return func() (now time.Time, err error) {
			tx, err := x.db.BeginTx(x.Context(), nil)
			if err != nil {
				return now, err
			}
			if err := q.Send(x.box.In(x.Context(), tx), now); err != nil {
				return now, err
			}
			err = tx.Commit()
			if now = time.Now(); wake {
				x.box.Wake()
			}
			return now, err
		}
	}
	for range 5 { // in turns, for what else the machine does
		measure("Send, no outbox", 100, 0, plain)
		measure("commit", 100, 0, committed(true))
		measure("commit, no Wake", 100, 0, committed(false))
		measure("commit, each alone", 20, 100*time.Millisecond, committed(true))
	}
	for name, d := range all {
		slices.Sort(d)
		x.Logf("%v: to the handler from %s: median %v, 9 of 10 within %v", x.box.dialect, name, d[len(d)/2], d[len(d)*9/10])
	}
	must(x, sub.Stop(context.Background()))
}
