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
	giveUp(ctx, orders, Order{ID: 7})

	for letter, err := range orders.Dead().Waiting(ctx) { // those that are there now
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(letter.Value, letter.Headers[patterns.HeaderReason], letter.Headers[patterns.HeaderAttempts])
		// Sent as it was received: with its id, headers and properties.
		if err := orders.Send(ctx, repaired(letter.Value), patterns.AsReceived(letter.Delivery)); err != nil {
			log.Fatal(err) // the letter stays
		}
		if err := letter.Ack(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output: {7 } no dish 1
}

// Send everything again that was given up, once its cause is mended.
func ExampleWorkQueue_Redrive() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	giveUp(ctx, orders, Order{ID: 7}, Order{ID: 8})

	n, err := orders.Dead().Redrive(ctx)
	fmt.Println(n, err)
	again, _ := orders.Get(ctx)
	fmt.Println(again.Value.ID, again.Attempt)
	_ = again.Ack(ctx)
	// Output:
	// 2 <nil>
	// 7 1
}

func giveUp(ctx context.Context, orders *patterns.WorkQueue[Order], all ...Order) {
	for _, o := range all {
		if err := orders.Send(ctx, o); err != nil {
			log.Fatal(err)
		}
		taken, err := orders.Get(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if err := taken.Reject(ctx, errors.New("no dish")); err != nil {
			log.Fatal(err)
		}
	}
}
