package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func repaired(o Order) Order { o.Dish = "ramen"; return o }

// Look at what was given up, repair it, and send it again.
func ExampleWorkQueue_Dead() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	_, err := orders.Work(ctx, func(_ context.Context, o Order) error {
		if o.Dish == "" {
			return patterns.Reject(errors.New("no dish"))
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Send(ctx, Order{ID: 7}); err != nil {
		log.Fatal(err)
	}

	letter, err := orders.Dead().Get(ctx) // or TryGet, which does not wait: adapters.ErrEmpty
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(letter.Value, letter.Headers[patterns.HeaderReason], letter.Headers[patterns.HeaderAttempts])
	// Sent as it was received: with its id, headers and properties.
	if err := orders.Send(ctx, repaired(letter.Value), patterns.AsReceived(letter.Delivery)); err != nil {
		log.Fatal(err) // the letter goes back when the bus is closed
	}
	if err := letter.Ack(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: {7 } no dish 1
}
