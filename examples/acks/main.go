// Acks shows what becomes of a message whose handler crashes.
//
//	go run ./examples/acks
//
// Five jobs go to a worker that crashes once, in the middle of job 3. First
// with AckOnReceive: the broker forgets a message as soon as it is delivered,
// so the job in hand is lost (at most once). Then with the default: the broker
// forgets a message when its handler has returned nil, so the job is tried again
// and done (at least once, so handlers must be idempotent; see Delivery.ID and
// Delivery.Attempt).
//
// The crash here is a panic, which Motif survives. A crash of the whole process
// ends the same way, except that nobody is left to call OnDrop: what was
// acknowledged is lost, and the rest goes to another worker.
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

const jobs = 5

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("acks", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	onReceive := patterns.NewWorkQueue[int](bus, "acks.on-receive")
	if err := crash(ctx, onReceive, out, patterns.AckOnReceive()); err != nil {
		return err
	}
	afterHandler := patterns.NewWorkQueue[int](bus, "acks.after-handler")
	return crash(ctx, afterHandler, out, patterns.Retry(patterns.RetryPolicy{Min: 10 * time.Millisecond}))
}

// crash sends jobs through a queue to a worker that crashes in the middle of
// one, and prints what became of them.
func crash(ctx context.Context, queue *patterns.WorkQueue[int], out io.Writer, opt patterns.WorkOption) error {
	if err := demo.Clear(ctx, queue); err != nil {
		return err
	}
	for job := range jobs {
		if err := queue.Send(ctx, job+1); err != nil {
			return err
		}
	}

	events := make(chan string, 2*jobs)
	handler := func(ctx context.Context, job int) error {
		d, _ := patterns.DeliveryFrom(ctx)
		if job == 3 && d.Attempt == 1 {
			events <- "crashed"
			panic("the worker is on fire")
		}
		events <- "done"
		return nil
	}
	lost := func(patterns.Delivery, error) { events <- "lost" }

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sub, err := queue.Work(ctx, handler, opt, patterns.OnDrop(lost))
	if err != nil {
		return err
	}
	count := map[string]int{}
	for count["done"]+count["lost"] < jobs {
		select {
		case event := <-events:
			count[event]++
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stop()
	fmt.Fprintf(out, "%-18s sent %d, crashed %d, done %d, lost %d\n",
		queue.Name(), jobs, count["crashed"], count["done"], count["lost"])
	return sub.Wait()
}
