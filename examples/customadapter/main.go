//go:build linux || darwin || freebsd || netbsd || openbsd

// Customadapter shows how to write an adapter. This one is for a directory of files:
// queues that need no broker and forget nothing.
//
//	go run ./examples/customadapter
//
//	mkdir /tmp/spool
//	go run ./examples/customadapter -broker dir:/tmp/spool -role send
//	go run ./examples/customadapter -broker dir:/tmp/spool -role work
//
// Begin with what the medium gives you. Fsync keeps a file, a rename is atomic, and a
// lock ends with its process, however that ends. So a publish can be confirmed, and the
// next process finds everything that was not acknowledged. One process at a time has a
// directory open. What a directory cannot do (delays, and so retries; dead letters;
// exchanges) is not claimed, and is refused by name before a message is sent. All of it
// is in dir.go; dir_test.go proves the claims, with package conformance and by killing a
// process.
//
// Without a directory in the URL the program makes one, and removes it at the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	const none = "dir:"
	var opts demo.Options
	flags := demo.Flags("customadapter", &opts, "all", "send", "work")
	opts.Broker, flags.Lookup("broker").DefValue = none, none
	if err := flags.Parse(args); err != nil {
		return err
	}
	if opts.Broker == none && opts.Role == "all" {
		dir, err := os.MkdirTemp("", "motif-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		opts.Broker = (&url.URL{Scheme: "dir", Path: dir}).String()
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	orders := patterns.NewWorkQueue[string](bus, "orders", patterns.NoDeadLetter())
	if opts.Role != "work" {
		if err := send(ctx, orders, out); err != nil || opts.Role == "send" {
			return err
		}
	}

	cook := func(ctx context.Context, dish string) error {
		if dish == "fugu" {
			return errors.New("nobody here may prepare it")
		}
		fmt.Fprintln(out, "cooked:", dish)
		if opts.Role == "all" && dish == "laksa" {
			stop() // the last one; in role work this takes Ctrl-C
		}
		return nil
	}
	if _, err := orders.Work(ctx, cook); errors.Is(err, adapters.ErrUnsupported) {
		fmt.Fprintln(out, "with retries:", err)
	} else if err != nil {
		return err
	}
	dropped := func(d patterns.Delivery, err error) { fmt.Fprintln(out, "dropped:", err) }
	sub, err := orders.Work(ctx, cook, patterns.NoRetry(), patterns.OnDrop(dropped))
	if err != nil {
		return err
	}
	return sub.Wait() // after Ctrl-C, once the dish in hand is cooked
}

func send(ctx context.Context, orders *patterns.WorkQueue[string], out io.Writer) error {
	for _, dish := range []string{"pad thai", "fugu", "laksa"} {
		if err := orders.Send(ctx, dish); err != nil { // nil: it is on the disk
			return err
		}
		fmt.Fprintln(out, "ordered:", dish)
	}
	return nil
}
