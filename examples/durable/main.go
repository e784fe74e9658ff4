// Durable shows what survives a restart of the broker.
//
//	go run ./examples/durable
//
//	go run ./examples/durable -broker amqp://guest:guest@localhost -role send
//	(restart the broker)
//	go run ./examples/durable -broker amqp://guest:guest@localhost -role check
//
// Queues and messages are durable unless you say otherwise: they survive a
// restart. A message sent with Transient may be lost (RabbitMQ keeps even that in
// a quorum queue), and the private queue of a subscription without a Group always
// is. A queue cannot change its properties later: declaring it again with others
// is refused with ErrMismatch, and leaves it as it is.
//
// The broker in the process, the default, is restarted by the program itself. It
// lives and dies with the program, so there each run does all of it, in role all.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

const queue = "durable"

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanGet} // to take what is left
	if err := demo.Flags("durable", &opts, "all", "send", "check").Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	switch opts.Role {
	case "send":
		return send(ctx, bus, out)
	case "check":
		return check(ctx, bus, out)
	}
	client, ok := bus.Driver().(*memory.Client)
	if !ok {
		return errors.New("this broker is yours to restart: run -role send, restart it, run -role check")
	}
	if err := send(ctx, bus, out); err != nil {
		return err
	}
	client.Broker().Restart()
	fmt.Fprintln(out, "restarted the broker")
	return check(ctx, bus, out)
}

func send(ctx context.Context, bus *patterns.Bus, out io.Writer) error {
	notes := patterns.NewWorkQueue[string](bus, queue)
	if err := demo.Clear(ctx, notes); err != nil {
		return err
	}
	for _, note := range []string{"invoice 1", "invoice 2"} {
		if err := notes.Send(ctx, note); err != nil {
			return err
		}
		fmt.Fprintln(out, "sent:", note)
	}
	if err := notes.Send(ctx, "cache hint", patterns.Transient()); err != nil {
		return err
	}
	fmt.Fprintln(out, "sent: cache hint (transient)")
	return nil
}

func check(ctx context.Context, bus *patterns.Bus, out io.Writer) error {
	notes := patterns.NewWorkQueue[string](bus, queue)
	for {
		note, err := notes.TryGet(ctx)
		if errors.Is(err, adapters.ErrEmpty) {
			break
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "still there:", note.Value)
		if err := note.Ack(ctx); err != nil {
			return err
		}
	}

	expiring := patterns.NewWorkQueue[string](bus, queue, patterns.MessageTTL(time.Hour))
	err := expiring.Declare(ctx)
	if !errors.Is(err, adapters.ErrMismatch) {
		return errors.Join(errors.New("declaring it again with a time to live was not ErrMismatch"), err)
	}
	fmt.Fprintln(out, "declaring it again with a time to live: refused,", adapters.ErrMismatch)
	return nil
}
