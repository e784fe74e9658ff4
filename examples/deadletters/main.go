// Deadletters finds dead letters by their reason, repairs some, and sends all of them back.
//
//	go run ./examples/deadletters
//
// Four orders fail: one names no dish, and the others come while the kitchen is closed. All end up
// in the queue deadletters.dead, with the reason in their headers. The order without a dish is
// given one and sent as it was received, with its id and headers. What the loop over Waiting does
// not settle goes back to its place. Then the kitchen opens, and Redrive sends the rest back
// unchanged. Each of them is handled as if for the first time.
//
// A dead letter leaves its queue only when the broker has it in the other one, so it is never lost,
// whatever goes wrong in between.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

// Order is what the kitchen is sent.
type Order struct {
	Table int
	Dish  string
}

var (
	errNoDish = errors.New("no dish")
	errClosed = errors.New("kitchen is closed")
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanGet} // to look through dead letters
	if err := demo.Flags("deadletters", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	orders := patterns.NewWorkQueue[Order](bus, "deadletters")
	if err := errors.Join(demo.Clear(ctx, orders), demo.Clear(ctx, orders.Dead())); err != nil {
		return err
	}
	menu := []Order{{1, "ramen"}, {2, ""}, {3, "pad thai"}, {4, "pho"}}
	for _, o := range menu {
		if err := orders.Send(ctx, o); err != nil {
			return err
		}
	}
	closed := func(o Order) error {
		if o.Dish == "" {
			return errNoDish
		}
		return errClosed
	}
	if err := work(ctx, orders, len(menu), closed); err != nil {
		return err
	}
	if err := repair(ctx, orders, out); err != nil {
		return err
	}
	sent, err := orders.Dead().Redrive(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "sent back as they were:", sent)
	return work(ctx, orders, len(menu), func(o Order) error {
		fmt.Fprintf(out, "table %d: %s\n", o.Table, o.Dish)
		return nil
	})
}

// repair gives the orders without a dish one, and sends them again.
func repair(ctx context.Context, orders *patterns.WorkQueue[Order], out io.Writer) error {
	for letter, err := range orders.Dead().Waiting(ctx) { // those that are there now
		if err != nil {
			return err
		}
		reason := letter.Headers[patterns.HeaderReason]
		fmt.Fprintf(out, "dead letter of table %d: %s\n", letter.Value.Table, reason)
		if reason != errNoDish.Error() {
			continue // it stays
		}
		letter.Value.Dish = "dish of the day"
		if err := orders.Send(ctx, letter.Value, patterns.AsReceived(letter.Delivery)); err != nil {
			return err // it stays, too
		}
		if err := letter.Ack(ctx); err != nil {
			return err
		}
	}
	return nil
}

// work handles n orders, each of which is cooked or given up at its first attempt.
func work(ctx context.Context, orders *patterns.WorkQueue[Order], n int, cook func(Order) error) error {
	settled := make(chan patterns.Result, n)
	kitchen, err := orders.Work(ctx,
		func(_ context.Context, o Order) error { return cook(o) },
		patterns.NoRetry(),
		patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { settled <- s.Result }))
	if err != nil {
		return err
	}
	if _, err := demo.Collect(ctx, settled, n); err != nil {
		return err
	}
	return kitchen.Stop(ctx)
}
