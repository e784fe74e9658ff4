package middleware_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// handled waits for n messages to be settled.
func handled(n int) (option patterns.SettleOption, wait func()) {
	settled := make(chan struct{}, n)
	return patterns.OnSettle(func(context.Context, patterns.Settlement) { settled <- struct{}{} }), func() {
		for range n {
			<-settled
		}
	}
}

// A message that its publisher sends twice is handled once.
func ExampleOnce() {
	ctx := context.Background()
	settled, wait := handled(2)
	bus := patterns.New(memory.New().Connect(), settled)
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[string](bus, "orders")
	ship := func(_ context.Context, dish string) error { fmt.Println("shipping", dish); return nil }
	if _, err := orders.Work(ctx, ship, middleware.Once(middleware.NewMemoryStore(10_000))); err != nil {
		panic(err)
	}
	for range 2 {
		if err := orders.Send(ctx, "ramen", patterns.MessageID("order 7")); err != nil {
			panic(err)
		}
	}
	wait()
	fmt.Println("skipped:", bus.Stats().Skipped)
	// Output:
	// shipping ramen
	// skipped: 1
}

// The handler writes in the transaction that notes that its message was handled: both are
// committed, or neither.
func ExampleSQLStore() {
	ctx := context.Background()
	settled, wait := handled(2)
	bus := patterns.New(memory.New().Connect(), settled)
	defer bus.Close(ctx)
	_, db := newFakeDB() // any database/sql driver
	defer db.Close()
	store, err := middleware.NewSQLStore(db, middleware.SQLConfig{Placeholder: middleware.Dollar})
	if err != nil {
		panic(err)
	}
	ship := func(ctx context.Context, dish string) error {
		tx, _ := middleware.TxFrom(ctx)
		return record(ctx, tx, dish)
	}
	orders := patterns.NewWorkQueue[string](bus, "orders")
	if _, err := orders.Work(ctx, ship, middleware.Once(store)); err != nil {
		panic(err)
	}
	for range 2 {
		_ = orders.Send(ctx, "ramen", patterns.MessageID("order 7"))
	}
	wait()
	// Output:
	// recorded ramen
}

func record(ctx context.Context, tx *sql.Tx, dish string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO effects (dish) VALUES ($1)", dish)
	fmt.Println("recorded", dish)
	return err
}

// A line for each try of each message, of all subscriptions of a bus.
func ExampleLog() {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" || a.Key == "in_queue" {
			return slog.Attr{} // another each time
		}
		return a
	}}))
	settled, wait := handled(1)
	bus := patterns.New(memory.New().Connect(), middleware.Log(log), settled, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[string](bus, "orders")
	ship := func(context.Context, string) error { return patterns.Reject(errors.New("sold out")) }
	if _, err := orders.Work(ctx, ship); err != nil {
		panic(err)
	}
	_ = orders.Send(ctx, "ramen", patterns.MessageID("7"))
	wait()
	// Output:
	// level=ERROR msg="message dead-lettered" result=dead-lettered source=orders id=7 attempt=1 error="sold out"
}

// Ten messages a second, five at once after a pause; the rest waits at the broker.
func ExampleRateLimit() {
	ctx := context.Background()
	settled, wait := handled(6)
	bus := patterns.New(memory.New().Connect(), settled)
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[int](bus, "orders")
	_ = orders.SendBatch(ctx, make([]int, 6))
	start := time.Now()
	ship := func(context.Context, int) error { return nil }
	if _, err := orders.Work(ctx, ship, middleware.RateLimit(10, time.Second, 5)); err != nil {
		panic(err)
	}
	wait()
	fmt.Println("the sixth waited:", time.Since(start) >= 100*time.Millisecond)
	// Output:
	// the sixth waited: true
}

// While the shop is down the subscription is paused, and no message burns its tries.
func ExampleCircuitBreaker() {
	ctx := context.Background()
	settled, wait := handled(4)
	bus := patterns.New(memory.New().Connect(), settled, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[int](bus, "orders")
	_ = orders.SendBatch(ctx, []int{1, 2})
	calls := 0
	ship := func(_ context.Context, order int) error {
		if calls++; calls <= 2 {
			return errors.New("the shop is down")
		}
		fmt.Println("shipping", order)
		return nil
	}
	if _, err := orders.Work(ctx, ship, patterns.NoRetry(),
		middleware.CircuitBreaker(middleware.BreakerConfig{Failures: 1, Cooldown: 10 * time.Millisecond})); err != nil {
		panic(err)
	}
	wait()
	fmt.Println("dead letters:", bus.Stats().DeadLettered)
	// Output:
	// shipping 1
	// shipping 2
	// dead letters: 0
}
