// Boundedqueue shows how a queue of bounded length levels a peak.
//
//	go run ./examples/boundedqueue               producers wait for room (-full hold)
//	go run ./examples/boundedqueue -full refuse  producers are turned away
//
// Twenty orders come in before the kitchen opens, and the queue takes five. The
// others are refused with ErrNacked: they are certainly not stored. Their
// producer may turn the customer away, or send with WaitForRoom, which waits as
// long as ctx allows, so that producers slow down to the kitchen's pace.
// Either way, nothing that was accepted is lost. At the end TryGet reports,
// without waiting, that the queue is empty.
//
// Not every broker counts so strictly: RabbitMQ's quorum queues, if the adapter
// is told to use them here, may take a few more.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

const (
	peak = 20
	room = 5
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	flags := demo.Flags("boundedqueue", &opts)
	full := flags.String("full", "hold", "what producers do while the queue is full: hold or refuse")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *full != "hold" && *full != "refuse" {
		return fmt.Errorf("-full is hold or refuse, not %q", *full)
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	orders := patterns.NewWorkQueue[int](bus, "boundedqueue", patterns.MaxLength(room))
	if err := demo.Clear(ctx, orders); err != nil {
		return err
	}

	var accepted, refused []int
	for order := range peak {
		switch err := orders.Send(ctx, order); {
		case err == nil:
			accepted = append(accepted, order)
		case errors.Is(err, adapters.ErrNacked):
			refused = append(refused, order)
		default:
			return err
		}
	}
	var waiting []int
	if *full == "hold" {
		waiting, refused = refused, nil
	}
	held := make(chan error, len(waiting))
	for _, order := range waiting {
		go func() { held <- orders.Send(ctx, order, patterns.WaitForRoom()) }()
	}
	fmt.Fprintf(out, "produced %d: accepted %d, held back %d, refused %d\n", peak, len(accepted), len(waiting), len(refused))

	cooked := make(chan int, peak)
	kitchen, err := orders.Work(ctx, func(ctx context.Context, order int) error {
		if err := demo.Busy(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		cooked <- order
		return nil
	})
	if err != nil {
		return err
	}
	results, err := demo.Collect(ctx, held, len(waiting))
	if err := errors.Join(append(results, err)...); err != nil {
		return err
	}
	accepted = append(accepted, waiting...)
	consumed, err := demo.Collect(ctx, cooked, len(accepted))
	if err != nil {
		return err
	}
	if err := kitchen.Stop(ctx); err != nil {
		return err
	}
	lost := slices.DeleteFunc(accepted, func(order int) bool { return slices.Contains(consumed, order) })
	fmt.Fprintf(out, "consumed %d, lost %d\n", len(consumed), len(lost))

	if _, err := orders.TryGet(ctx); !errors.Is(err, adapters.ErrEmpty) {
		return errors.Join(errors.New("taking one more was not ErrEmpty"), err)
	}
	fmt.Fprintln(out, "nothing left:", adapters.ErrEmpty)
	return nil
}
