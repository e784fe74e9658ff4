package patterns_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Pause a subscription while something that it needs is being mended, and go on with more workers.
func ExampleSubscription_Pause() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")

	handled := make(chan int)
	sub, err := orders.Work(ctx, func(_ context.Context, o Order) error {
		handled <- o.ID
		return nil
	}, patterns.Workers(1), patterns.Prefetch(8)) // Prefetch is how many workers there can be
	if err != nil {
		log.Fatal(err)
	}
	if err := sub.Pause(ctx); err != nil { // nil: nothing is in hand
		log.Fatal(err)
	}
	if err := orders.Send(ctx, Order{ID: 7}); err != nil { // it waits in the queue, where others can have it
		log.Fatal(err)
	}
	fmt.Println(bus.Health().Subscriptions[0].State)

	if err := sub.SetWorkers(8); err != nil {
		log.Fatal(err)
	}
	sub.Resume()
	fmt.Println(<-handled)
	fmt.Println(sub.Stop(ctx))
	// Output:
	// paused
	// 7
	// <nil>
}

// Have more workers while messages wait, and few when none do.
func ExampleWorkersBetween() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	if err := orders.SendBatch(ctx, make([]Order, 100)); err != nil {
		log.Fatal(err)
	}

	atOnce := make(chan Order)
	sub, err := orders.Work(ctx, func(_ context.Context, o Order) error {
		atOnce <- o
		return nil
	}, patterns.WorkersBetween(1, 8))
	if err != nil {
		log.Fatal(err)
	}
	for bus.Health().Subscriptions[0].Workers < 8 { // all wait
		time.Sleep(10 * time.Millisecond)
	}
	for range 100 {
		<-atOnce
	}
	fmt.Println(sub.Stop(ctx))
	// Output: <nil>
}
