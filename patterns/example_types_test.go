package patterns_test

import (
	"context"
	"fmt"
	"log"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type OrderPlaced struct{ Dish, Currency string }

type OrderPlacedV1 struct{ Dish string }

type OrderCancelled struct{ Reason string }

// Several types on one queue, each with a handler of its own, and one of them in an old version.
func ExampleTypes() {
	ctx, stop := context.WithCancel(context.Background())
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(context.Background())

	events := patterns.NewTypes[any](
		patterns.Named[OrderPlaced]("order.placed"),
		patterns.Named[OrderCancelled]("order.cancelled"),
		patterns.Upgrade("order.placed.v1", func(o OrderPlacedV1) (OrderPlaced, error) {
			return OrderPlaced{Dish: o.Dish, Currency: "THB"}, nil
		}),
	)
	orders := patterns.NewWorkQueue[any](bus, "orders", patterns.WithTypes(events))

	for _, v := range []any{OrderPlaced{"larb", "EUR"}, OrderCancelled{"too late"}} {
		if err := orders.Send(ctx, v); err != nil { // a value of another type would be refused
			log.Fatal(err)
		}
	}
	old := patterns.NewWorkQueue[OrderPlacedV1](bus, "orders") // a program that knows one type only
	if err := old.Send(ctx, OrderPlacedV1{"som tam"}, patterns.Type("order.placed.v1")); err != nil {
		log.Fatal(err)
	}

	handler, err := events.Handler( // an error if a type has no handler
		patterns.On(func(ctx context.Context, o OrderPlaced) error {
			fmt.Println("cook", o.Dish, "for", o.Currency)
			if o.Dish == "som tam" {
				stop()
			}
			return nil
		}),
		patterns.On(func(ctx context.Context, o OrderCancelled) error {
			fmt.Println("cancelled:", o.Reason)
			return nil
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	sub, err := orders.Work(ctx, handler)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sub.Wait())
	// Output:
	// cook larb for EUR
	// cancelled: too late
	// cook som tam for THB
	// <nil>
}
