package cloudevents_test

import (
	"context"
	"fmt"
	"log"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/cloudevents"
)

type Order struct{ Dish string }

// Send and handle CloudEvents with functions that know nothing of them.
func ExampleBinary() {
	ctx, stop := context.WithCancel(context.Background())
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(context.Background())

	orders := patterns.NewWorkQueue[Order](bus, "orders", cloudevents.Binary("/shop"))
	if err := orders.Send(ctx, Order{"larb"}, patterns.Type("order.placed"), cloudevents.Subject("table 4")); err != nil {
		log.Fatal(err)
	}
	sub, err := orders.Work(ctx, func(ctx context.Context, o Order) error {
		e, _ := cloudevents.FromContext(ctx)
		fmt.Println(e.Type, "from", e.Source, "for", e.Subject+":", o.Dish)
		stop()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sub.Wait())
	// Output:
	// order.placed from /shop for table 4: larb
	// <nil>
}

// Send and take events as values, which say everything themselves.
func ExampleEvent() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)

	orders := patterns.NewWorkQueue[cloudevents.Event[Order]](bus, "orders", cloudevents.Structured(""))
	e := cloudevents.Event[Order]{Data: Order{"larb"}}
	e.ID, e.Source, e.Type = "7", "/shop", "order.placed"
	if err := orders.Send(ctx, e); err != nil {
		log.Fatal(err)
	}
	m, err := orders.Get(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.ContentType)
	fmt.Println(m.Value.ID, m.Value.Source, m.Value.Type, m.Value.Data.Dish, m.Ack(ctx))
	// Output:
	// application/cloudevents+json; charset=utf-8
	// 7 /shop order.placed larb <nil>
}
