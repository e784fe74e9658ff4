// Logs copies each line to everyone who is listening.
//
//	go run ./examples/logs
//
//	go run ./examples/logs -broker amqp://guest:guest@localhost -role listen   (as often as you like)
//	go run ./examples/logs -broker amqp://guest:guest@localhost -role publish
//
// Each subscription without a Group has a private queue: it gets its own copy of what is published
// from the moment Subscribe returns until it ends, and nothing from before or after. So the one
// that joins late here misses the first two lines. To miss nothing, use a Group: its queue stays.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("logs", &opts, "all", "listen", "publish").Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	logs := patterns.NewPubSub[string](bus, "logs")
	switch opts.Role {
	case "listen":
		sub, err := listen(ctx, logs, func(line string) { fmt.Fprintln(out, line) })
		if err != nil {
			return err
		}
		return sub.Wait() // until Ctrl-C
	case "publish":
		return publish(ctx, logs, "1 starting", "2 ready", "3 busy", "4 stopping")
	}
	return all(ctx, logs, out)
}

func all(ctx context.Context, logs *patterns.PubSub[string], out io.Writer) error {
	seen := make(chan string, 10)
	join := func(name string) error {
		_, err := listen(ctx, logs, func(line string) { seen <- name + ": " + line })
		return err
	}
	if err := errors.Join(join("file"), join("screen")); err != nil {
		return err
	}
	if err := publish(ctx, logs, "1 starting", "2 ready"); err != nil {
		return err
	}
	if err := join("late"); err != nil {
		return err
	}
	if err := publish(ctx, logs, "3 busy", "4 stopping"); err != nil {
		return err
	}
	lines, err := demo.Collect(ctx, seen, 4+4+2)
	slices.Sort(lines) // the listeners run side by side
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return err
}

func listen(ctx context.Context, logs *patterns.PubSub[string], show func(line string)) (*patterns.Subscription, error) {
	return logs.Subscribe(ctx, func(_ context.Context, line string) error {
		show(line)
		return nil
	})
}

func publish(ctx context.Context, logs *patterns.PubSub[string], lines ...string) error {
	for _, line := range lines {
		if err := logs.Publish(ctx, line); err != nil {
			return err
		}
	}
	return nil
}
