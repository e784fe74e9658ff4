// Fairdispatch shares work between a slow and a fast worker, in two ways.
//
//	go run ./examples/fairdispatch
//
// With a large Prefetch the broker deals messages out in advance, to each
// worker in turn: both get half, and the fast one is idle while the slow one
// works through its half. With Prefetch 1 a worker holds one message and gets the
// next when it is done with that one: the fast one does nearly everything, and the
// work is finished as early as possible. That is the default (as many as Workers).
//
// A higher prefetch is for handlers so short that most of the time goes into round
// trips to the broker. The times printed are measured; on a real broker they are
// a little longer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

const parcels = 20

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("fairdispatch", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	queue := patterns.NewWorkQueue[int](bus, "fairdispatch")
	if err := demo.Clear(ctx, queue); err != nil {
		return err
	}
	for _, prefetch := range []int{parcels, 1} {
		if err := share(ctx, queue, prefetch, out); err != nil {
			return err
		}
	}
	return nil
}

// share has two workers handle all parcels, and prints who handled how many.
func share(ctx context.Context, queue *patterns.WorkQueue[int], prefetch int, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	handled := make(chan string, parcels)
	worker := func(name string, each time.Duration) (*patterns.Subscription, error) {
		return queue.Work(ctx, func(ctx context.Context, _ int) error {
			if err := demo.Busy(ctx, each); err != nil {
				return err
			}
			handled <- name
			return nil
		}, patterns.Prefetch(prefetch))
	}
	slow, err := worker("slow", 200*time.Millisecond)
	if err != nil {
		return err
	}
	fast, err := worker("fast", 2*time.Millisecond)
	if err != nil {
		return err
	}

	began := time.Now()
	for parcel := range parcels {
		if err := queue.Send(ctx, parcel); err != nil {
			return err
		}
	}
	names, err := demo.Collect(ctx, handled, parcels)
	if err != nil {
		return err
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	count := map[string]int{}
	for _, name := range names {
		count[name]++
	}
	fmt.Fprintf(out, "prefetch %2d: slow handled %2d, fast %2d, in %v\n", prefetch, count["slow"], count["fast"], took)

	stop()
	return errors.Join(slow.Wait(), fast.Wait())
}
