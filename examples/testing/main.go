// Testing is a service to be tested: what it shows is in billing_test.go.
//
//	go run ./examples/testing
//	go test -v ./examples/testing
//
// A handler is a function, so most tests call it (TestCharge). What is not in the function, such as
// retries, dead letters and shutdown, is tested with the whole service on a broker in the process.
// In a testing/synctest bubble time is virtual: a retry after minutes takes microseconds, and is
// exact. The broker can be told what to do wrong, for failures that are hard to provoke on a real
// one.
//
// The service is given its bus and its bank. That is all it takes to test it.
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

func main() { demo.Main(run) }

// anyBank declines what costs too much.
type anyBank struct{}

func (anyBank) Charge(_ context.Context, _ string, cents int) error {
	if cents > 100_00 {
		return errDeclined
	}
	return nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanGet} // to take the receipt and the dead letter
	if err := demo.Flags("testing", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	orders, receipts := orderQueue(bus), receiptQueue(bus)
	if err := errors.Join(demo.Clear(ctx, orders), demo.Clear(ctx, orders.Dead()), demo.Clear(ctx, receipts)); err != nil {
		return err
	}
	sub, err := start(ctx, bus, anyBank{})
	if err != nil {
		return err
	}
	for _, o := range []Order{{"ramen", 14_50}, {"caviar", 1400_00}} {
		if err := orders.Send(ctx, o, patterns.MessageID("order of "+o.Dish)); err != nil {
			return err
		}
	}
	receipt, err := receipts.Get(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "receipt: %+v\n", receipt.Value)
	letter, err := orders.Dead().Get(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "dead letter: %+v, %s\n", letter.Value, letter.Headers[patterns.HeaderReason])
	return errors.Join(receipt.Ack(ctx), letter.Ack(ctx), sub.Stop(ctx))
}
