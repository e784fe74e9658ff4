package adapters_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// What a health check, an exporter of metrics, and an operator's command need of a broker.
func ExampleInspector() {
	ctx := context.Background()
	driver := memory.New().Connect() // or adapters.Open(ctx, url)
	bus := patterns.New(driver, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(ctx)
	fail(bus)

	ops, ok := adapters.Driver(driver).(adapters.Inspector)
	if !ok {
		log.Fatal("this adapter cannot look at queues")
	}

	// Metrics and health: depth and consumers.
	q, err := ops.Inspect(ctx, "orders.dead")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d ready, %d consumers\n", q.Name, q.Ready, q.Consumers)
	if !q.Oldest.IsZero() && time.Since(q.Oldest) > time.Hour {
		fmt.Println("nobody looks after", q.Name)
	}

	// Explain the dead letters.
	letters, err := ops.Browse(ctx, q.Name, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range letters {
		fmt.Printf("%s: %s\n", d.Message.Payload, d.Message.Metadata[patterns.HeaderReason])
	}

	// What feeds a group's queue.
	bound, err := ops.Bindings(ctx, "order-placed:merchant")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("bound to", bound[0].Exchange)

	// Clear up.
	n, err := ops.Purge(ctx, q.Name)
	fmt.Println("purged:", n, err)
	for q, err := range ops.Queues(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if err := ops.Delete(ctx, q.Name, adapters.IfUnused|adapters.IfEmpty); err != nil {
			log.Fatal(err)
		}
	}
	_, err = ops.Inspect(ctx, q.Name)
	fmt.Println("deleted:", errors.Is(err, adapters.ErrNotFound))
	// Output:
	// orders.dead: 1 ready, 0 consumers
	// "soup": no spoon
	// bound to order-placed
	// purged: 1 <nil>
	// deleted: true
}

// fail leaves one dead letter, and a group with nothing to do.
func fail(bus *patterns.Bus) {
	ctx := context.Background()
	placed := patterns.NewPubSub[string](bus, "order-placed")
	if err := placed.Declare(ctx, patterns.Group("merchant")); err != nil {
		log.Fatal(err)
	}
	orders := patterns.NewWorkQueue[string](bus, "orders")
	if err := orders.Send(ctx, "soup"); err != nil {
		log.Fatal(err)
	}
	taken, err := orders.Get(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := taken.Reject(ctx, errors.New("no spoon")); err != nil {
		log.Fatal(err)
	}
}
