//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	_ "github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// A child is a part of an application, in a process of its own that is killed. It is this test
// program, told by this variable what to be.
const roleVar = "MOTIF_OUTBOX_CHILD"

// task is what a child reads from its input, which ends when its parent is gone.
type task struct {
	Driver, DSN string
	Dialect     Dialect
	URL         string // of the broker
	Die         string // a step at which it kills itself
	After       int    // when it has come there so often
	Orders      int    // how many the shop takes; 0: until it is killed
	PerTx       int
	Ahead       int // orders that the kitchen has not handled, at most

	steps atomic.Int64 // how often it has come to Die
}

// The steps at which children die, by role.
var steps = map[string][]string{
	"shop":    {"order written", "message stored", "committed"},
	"relay":   {"publishing", "confirmed", "settled"},
	"kitchen": {"effect written", "next message stored", "handler's transaction committed"},
}

func (x *task) step(name string) {
	if name == x.Die && x.steps.Add(1) >= int64(x.After) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// beChild plays a role until it is killed, has done its work, or whoever started it is gone.
func beChild(role string) {
	var x task
	in := json.NewDecoder(os.Stdin)
	err := in.Decode(&x)
	if err == nil {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(2)
		}()
		err = x.play(role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (x *task) play(role string) error {
	ctx := context.Background()
	db, err := sql.Open(x.Driver, x.DSN)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	box, err := New(db, x.Dialect, Config{Poll: 20 * time.Millisecond, Logger: quiet})
	if err != nil {
		return err
	}
	box.lease = time.Second
	bus, err := patterns.Open(ctx, x.URL, patterns.WithLogger(quiet), patterns.OnPublish(func(_ context.Context, p *patterns.Publishing) func(error) {
		if role == "relay" {
			x.step("publishing")
		}
		return func(error) {
			if role == "relay" {
				x.step("confirmed")
			}
		}
	}))
	if err != nil {
		return err
	}
	switch role {
	case "shop":
		return x.shop(ctx, db, box, bus)
	case "relay":
		go func() {
			for range time.Tick(time.Millisecond) {
				if box.sent.Load() > 0 {
					x.step("settled")
				}
			}
		}()
		return box.Run(ctx, bus)
	}
	return x.kitchen(ctx, db, box, bus)
}

// shop takes orders: each is written, and its message stored, in one transaction.
func (x *task) shop(ctx context.Context, db *sql.DB, box *Box, bus *patterns.Bus) error {
	orders := patterns.NewWorkQueue[int](bus, "orders")
	var last, handled int
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM orders").Scan(&last); err != nil {
		return err
	}
	for x.Orders == 0 || last < x.Orders {
		for last-handled > x.Ahead { // the kitchen is slower
			if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM effects").Scan(&handled); err != nil {
				return err
			}
			if last-handled > x.Ahead {
				time.Sleep(5 * time.Millisecond)
			}
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for range x.PerTx {
			last++
			if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO orders (seq) VALUES (%d)", last)); err != nil {
				return err
			}
			x.step("order written")
			if err := orders.Send(box.In(ctx, tx), last); err != nil {
				return err
			}
		}
		x.step("message stored")
		if err := tx.Commit(); err != nil {
			return err
		}
		x.step("committed")
	}
	return nil
}

// kitchen handles orders, each with an effect and another message in the transaction that notes
// that it was handled; and those messages, each with an effect.
func (x *task) kitchen(ctx context.Context, db *sql.DB, box *Box, bus *patterns.Bus) error {
	config := middleware.SQLConfig{}
	if x.Dialect == PostgreSQL {
		config.Placeholder = middleware.Dollar
	}
	store, err := middleware.NewSQLStore(db, config)
	if err != nil {
		return err
	}
	committed := patterns.WithMiddleware(func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			produced, err := next(m)
			if err == nil {
				x.step("handler's transaction committed")
			}
			return produced, err
		}
	})
	retry := patterns.Retry(patterns.RetryPolicy{Attempts: 1000, Min: 50 * time.Millisecond, Max: 50 * time.Millisecond})
	meals := patterns.NewWorkQueue[int](bus, "meals")
	sub, err := patterns.NewWorkQueue[int](bus, "orders").Work(ctx, func(ctx context.Context, seq int) error {
		tx, _ := middleware.TxFrom(ctx)
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO effects (seq) VALUES (%d)", seq)); err != nil {
			return err
		}
		x.step("effect written")
		if err := meals.Send(box.In(ctx, tx), seq); err != nil {
			return err
		}
		x.step("next message stored")
		return nil
	}, committed, middleware.Once(store), retry, patterns.LossLimit(1000))
	if err != nil {
		return err
	}
	_, err = meals.Work(ctx, func(ctx context.Context, seq int) error {
		tx, _ := middleware.TxFrom(ctx)
		_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO delivered (seq) VALUES (%d)", seq))
		return err
	}, middleware.Once(store), retry, patterns.LossLimit(1000))
	if err != nil {
		return err
	}
	return sub.Wait()
}

// child is the other side.
type child struct {
	role string
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	kill func()
}

// play starts a child.
func play(t testing.TB, role string, x *task) *child {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{role: role, cmd: cmd, over: make(chan struct{})}
	go func() { defer close(c.over); _ = cmd.Wait() }()
	c.kill = sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-c.over })
	t.Cleanup(c.kill)
	if err := json.NewEncoder(in).Encode(x); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	return c
}
