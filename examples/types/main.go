// Types shows several types of messages on one queue, each with a handler of its own.
//
//	go run ./examples/types
//
// The queue says which types there are, by the names that they have on the wire; a value of another
// type is not sent. Old versions of a type are upgraded when they come. What nobody knows, as
// "order.shipped" here, goes to the dead letters at once, with its type in the reason. The handler
// is made of one for each type, and there is an error at the start if one is missing.
//
// The messages are CloudEvents, in binary mode: other programs need not be written in Go, nor know
// of Motif. One of them sends the events of the old version here, and one in structured mode.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/cloudevents"
)

type (
	// OrderPlaced is sent when somebody orders.
	OrderPlaced struct{ Dish, Currency string }

	// OrderPlacedV1 is what it was before there were currencies.
	OrderPlacedV1 struct{ Dish string }

	// OrderCancelled is sent when somebody changes his mind.
	OrderCancelled struct{ Reason string }
)

var events = patterns.NewTypes[any](
	patterns.Named[OrderPlaced]("order.placed"),
	patterns.Named[OrderCancelled]("order.cancelled"),
	patterns.Upgrade("order.placed.v1", func(o OrderPlacedV1) (OrderPlaced, error) {
		return OrderPlaced{Dish: o.Dish, Currency: "THB"}, nil
	}),
)

// cook has a handler for each type.
type cook struct{ out io.Writer }

func (c cook) placed(ctx context.Context, o OrderPlaced) error {
	e, _ := cloudevents.FromContext(ctx)
	fmt.Fprintf(c.out, "%s from %s: cook %s, paid in %s\n", e.Type, e.Source, o.Dish, o.Currency)
	return nil
}

func (c cook) cancelled(ctx context.Context, o OrderCancelled) error {
	e, _ := cloudevents.FromContext(ctx)
	fmt.Fprintf(c.out, "%s from %s: %s\n", e.Type, e.Source, o.Reason)
	return nil
}

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanGet} // to look through dead letters
	if err := demo.Flags("types", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	queue := patterns.NewWorkQueue[any](bus, "types", patterns.WithTypes(events), cloudevents.Binary("/shop"))
	for _, name := range []string{queue.Name(), queue.Dead().Name()} { // whatever is left there
		if err := demo.Clear(ctx, patterns.NewWorkQueue[patterns.Raw](bus, name)); err != nil {
			return err
		}
	}
	if err := queue.SendBatch(ctx, []any{OrderPlaced{"larb", "EUR"}, OrderCancelled{"too hot"}}); err != nil {
		return err
	}
	if err := queue.Send(ctx, "who am I?"); err != nil {
		fmt.Fprintln(out, "not sent:", err)
	}
	if err := others(ctx, bus); err != nil {
		return err
	}

	c := cook{out}
	handler, err := events.Handler(patterns.On(c.placed), patterns.On(c.cancelled))
	if err != nil {
		return err
	}
	settled := make(chan patterns.Settlement, 10)
	sub, err := queue.Work(ctx, handler, patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { settled <- s }))
	if err != nil {
		return err
	}
	for range 5 {
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := sub.Stop(ctx); err != nil {
		return err
	}
	for letter, err := range queue.Dead().Waiting(ctx) {
		if !errors.Is(err, patterns.ErrCodec) { // which says that it is of an unknown type, and comes with the letter
			return err
		}
		fmt.Fprintln(out, "dead letter:", letter.Headers[patterns.HeaderReason])
	}
	return nil
}

// others are programs that have another idea of what there is.
func others(ctx context.Context, bus *patterns.Bus) error {
	old := patterns.NewWorkQueue[OrderPlacedV1](bus, "types", cloudevents.BinaryPrefix(cloudevents.PrefixRabbitMQ, "/old-shop"))
	if err := old.Send(ctx, OrderPlacedV1{"som tam"}, patterns.Type("order.placed.v1")); err != nil {
		return err
	}
	other := patterns.NewWorkQueue[cloudevents.Event[any]](bus, "types", cloudevents.Structured("/another-shop"))
	return other.SendBatch(ctx, []cloudevents.Event[any]{
		{Attributes: cloudevents.Attributes{Type: "order.placed"}, Data: OrderPlaced{"pad thai", "USD"}},
		{Attributes: cloudevents.Attributes{Type: "order.shipped"}, Data: "on its way"},
	})
}
