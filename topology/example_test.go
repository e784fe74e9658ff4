package topology_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/topology"
)

type Order struct{ Dish string }

// declare is all that the service has at the broker. It may call it when it starts, too.
func declare(ctx context.Context, bus *patterns.Bus) error {
	return errors.Join(
		patterns.NewWorkQueue[Order](bus, "orders", patterns.MaxLength(1000)).Declare(ctx),
		patterns.NewPubSub[Order](bus, "order-placed").Declare(ctx, patterns.Group("merchant")),
	)
}

// A program prints its topology: for motif topology plan, diff, apply, verify and migrate.
func ExampleOf() {
	t, err := topology.Of(context.Background(), declare)
	if err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(t); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {
	//   "version": 1,
	//   "exchanges": [
	//     {
	//       "name": "order-placed",
	//       "kind": "fanout"
	//     }
	//   ],
	//   "queues": [
	//     {
	//       "name": "order-placed:merchant",
	//       "exchange": "order-placed",
	//       "group": "merchant",
	//       "dead_letter": "order-placed:merchant.dead"
	//     },
	//     {
	//       "name": "order-placed:merchant.dead"
	//     },
	//     {
	//       "name": "orders",
	//       "dead_letter": "orders.dead",
	//       "max_length": 1000
	//     },
	//     {
	//       "name": "orders.dead"
	//     }
	//   ]
	// }
}

// What motif topology diff and apply do.
func ExampleTopology_Check() {
	ctx := context.Background()
	broker := memory.New()
	old := patterns.New(broker.Connect())
	defer old.Close(ctx)
	if err := patterns.NewWorkQueue[Order](old, "orders").Declare(ctx); err != nil {
		log.Fatal(err)
	}

	t, err := topology.Of(ctx, declare)
	if err != nil {
		log.Fatal(err)
	}
	driver := broker.Connect()
	defer driver.Close(ctx)
	show := func() {
		report, err := t.Check(ctx, driver)
		if err != nil {
			log.Fatal(err)
		}
		for _, f := range report.Findings {
			fmt.Println(f)
		}
	}
	show()
	fmt.Println("apply:", t.Apply(ctx, driver) != nil)
	show()
	// Output:
	// missing    exchange "order-placed"
	// missing    queue "order-placed:merchant"
	// missing    binding of queue "order-placed:merchant" to exchange "order-placed"
	// missing    queue "order-placed:merchant.dead"
	// differs    queue "orders": max length is none, not 1000
	// apply: true
	// differs    queue "orders": max length is none, not 1000
}

// A service makes what it needs when it starts: several declarations at a time.
func ExampleTopology_Apply() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	t, err := topology.Of(ctx, declare)
	if err == nil {
		err = t.Apply(ctx, bus.Driver())
	}
	if err != nil {
		log.Fatal(err)
	}
	q, err := bus.Driver().(adapters.Inspector).Inspect(ctx, "order-placed:merchant")
	fmt.Println(q.Name, err)
	// Output: order-placed:merchant <nil>
}
