// Severity gives each listener the log lines of the severities it asked for.
//
//	go run ./examples/severity
//
//	go run ./examples/severity -broker amqp://guest:guest@localhost -role listen
//	go run ./examples/severity -broker amqp://guest:guest@localhost -role publish
//
// A line is published with its severity as the key. The file asks for errors
// only, the screen for info, warning and error; both get their own copy of an
// error. Nobody asks for debug: such a line goes nowhere, which is an error only
// if the publisher says Mandatory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("severity", &opts, "all", "listen", "publish").Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	logs := patterns.NewRouted[string](bus, "severity")
	switch opts.Role {
	case "listen":
		file, screen, err := listen(ctx, logs, func(line string) { fmt.Fprintln(out, line) })
		if err != nil {
			return err
		}
		return errors.Join(file.Wait(), screen.Wait()) // until Ctrl-C
	case "publish":
		return publish(ctx, logs, out)
	}

	seen := make(chan string, 10)
	if _, _, err := listen(ctx, logs, func(line string) { seen <- line }); err != nil {
		return err
	}
	if err := publish(ctx, logs, out); err != nil {
		return err
	}
	lines, err := demo.Collect(ctx, seen, 1+3)
	slices.Sort(lines) // the listeners run side by side
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return err
}

func listen(ctx context.Context, logs *patterns.Routed[string], show func(line string)) (file, screen *patterns.Subscription, err error) {
	writeTo := func(name string) patterns.Handler[string] {
		return func(ctx context.Context, text string) error {
			d, _ := patterns.DeliveryFrom(ctx)
			show(fmt.Sprintf("%-7s %s: %s", name+":", d.Key, text))
			return nil
		}
	}
	file, err = logs.Subscribe(ctx, []string{"error"}, writeTo("file"))
	if err != nil {
		return nil, nil, err
	}
	screen, err = logs.Subscribe(ctx, []string{"info", "warning", "error"}, writeTo("screen"))
	return file, screen, err
}

func publish(ctx context.Context, logs *patterns.Routed[string], out io.Writer) error {
	lines := []struct{ severity, text string }{
		{"info", "listening on :8080"},
		{"warning", "disk is 90% full"},
		{"error", "disk is full"},
	}
	for _, line := range lines {
		if err := logs.Publish(ctx, line.severity, line.text); err != nil {
			return err
		}
	}
	err := logs.Publish(ctx, "debug", "cache miss", patterns.Mandatory())
	if !errors.Is(err, adapters.ErrUnroutable) {
		return errors.Join(errors.New("publishing to nobody was not ErrUnroutable"), err)
	}
	fmt.Fprintln(out, "debug, mandatory: nobody asked for it,", adapters.ErrUnroutable)
	return nil
}
