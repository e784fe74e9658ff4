package main

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	_ "github.com/motifmq/motif/adapters/memory" // each adapter makes its URLs known
	"github.com/motifmq/motif/patterns"
)

type Order struct{ Dish string }

func ship(ctx context.Context, o Order) error {
	fmt.Println("shipping", o.Dish)
	return nil // an error here: tried again, later and later, then to the dead letters
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	bus, err := patterns.Open(ctx, "memory:")
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close(context.Background())

	orders := patterns.NewWorkQueue[Order](bus, "orders")
	if err := orders.Send(ctx, Order{"pad thai"}); err != nil { // nil: the broker has it
		log.Fatal(err)
	}
	sub, err := orders.Work(ctx, ship, patterns.Workers(8))
	if err != nil {
		log.Fatal(err)
	}
	if err := sub.Wait(); err != nil { // after Ctrl-C, once what is in hand is finished
		log.Fatal(err)
	}
	fmt.Println("done")
}
