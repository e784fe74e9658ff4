// Hello sends one message through a queue and receives it: the smallest program
// there is.
//
//	go run ./examples/hello
//	go run ./examples/hello -broker amqp://guest:guest@localhost
//
// Nothing has to be set up: the queue is declared by whoever comes first. Send
// returns nil only once the broker has the message; Work calls a function with
// each, and acknowledges it when that returned nil. When ctx ends, by Ctrl-C or
// as here by the handler, no more is fetched, what is in hand is finished, and
// Wait returns.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("hello", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx) // patterns.Open with the URL from -broker
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	greetings := patterns.NewWorkQueue[string](bus, "hello")
	if err := greetings.Send(ctx, "Hello, World!"); err != nil {
		return err
	}
	sub, err := greetings.Work(ctx, func(_ context.Context, text string) error {
		fmt.Fprintln(out, "received:", text)
		stop() // one is enough here; without this, it works until Ctrl-C
		return nil
	})
	if err != nil {
		return err
	}
	return sub.Wait()
}
