package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "github.com/mattn/go-sqlite3"

	_ "github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/outbox"
	"github.com/motifmq/motif/patterns"
)

type Order struct {
	ID   int
	Dish string
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A shop writes an order and sends it in one transaction. A kitchen handles it in another, with the
// mark that it did, what it writes, and what it sends on. Whatever dies in between, each happens
// once.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "outbox")
	check(err)
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "db")+"?_busy_timeout=10000&_journal_mode=WAL&_txlock=immediate")
	check(err)
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE TABLE orders (id INTEGER PRIMARY KEY, dish TEXT); CREATE TABLE meals (dish TEXT)")
	check(err)
	bus, err := patterns.Open(ctx, "memory:")
	check(err)
	defer bus.Close(context.Background())

	box, err := outbox.New(db, outbox.SQLite, outbox.Config{})
	check(err)
	check(box.Migrate(ctx))
	relayed := make(chan error)
	go func() { relayed <- box.Run(ctx, bus) }() // sends what is stored

	orders := patterns.NewWorkQueue[Order](bus, "orders")
	ready := patterns.NewPubSub[Order](bus, "ready")

	once, err := middleware.NewSQLStore(db, middleware.SQLConfig{}) // the inbox
	check(err)
	_, err = orders.Work(ctx, func(ctx context.Context, o Order) error {
		tx, _ := middleware.TxFrom(ctx)
		if _, err := tx.ExecContext(ctx, "INSERT INTO meals (dish) VALUES (?)", o.Dish); err != nil {
			return err
		}
		return ready.Publish(box.In(ctx, tx), o)
	}, middleware.Once(once))
	check(err)
	served := make(chan Order)
	_, err = ready.Subscribe(ctx, func(_ context.Context, o Order) error { served <- o; return nil })
	check(err)

	err = box.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		o := Order{7, "pad thai"}
		if _, err := tx.ExecContext(ctx, "INSERT INTO orders (id, dish) VALUES (?, ?)", o.ID, o.Dish); err != nil {
			return err
		}
		return orders.Send(ctx, o) // stored in tx
	})
	check(err)
	fmt.Println((<-served).Dish)
	stop()
	check(<-relayed)
	// Output: pad thai
}
