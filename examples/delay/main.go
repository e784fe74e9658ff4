// Delay sends messages that arrive later.
//
//	go run ./examples/delay
//
// Three reminders are sent at once: one for two seconds from now, one for a second from now, and
// one for now. They arrive in the
// order in which they are due, because none waits behind another. They wait at the broker, so with
// -broker this program could end in the meantime, and whoever works on the queue when they are due
// would get them. A delayed message is never early. It may be a little late: RabbitMQ counts in
// tenths of a second.
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

// Reminder says what to do, and when.
type Reminder struct {
	Text string
	Due  time.Time
}

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("delay", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	reminders := patterns.NewWorkQueue[Reminder](bus, "delay")
	if err := demo.Clear(ctx, reminders); err != nil {
		return err
	}
	arrived := make(chan Reminder, 3)
	sub, err := reminders.Work(ctx, func(_ context.Context, r Reminder) error {
		when := "early"
		if !time.Now().Before(r.Due) {
			when = "due"
		}
		fmt.Fprintf(out, "%s: %s\n", when, r.Text)
		arrived <- r
		return nil
	})
	if err != nil {
		return err
	}
	if err := remind(ctx, reminders, "take the rice off", 2*time.Second); err != nil {
		return err
	}
	if err := remind(ctx, reminders, "stir the rice", time.Second); err != nil {
		return err
	}
	if err := remind(ctx, reminders, "put the rice on", 0); err != nil {
		return err
	}
	if _, err := demo.Collect(ctx, arrived, 3); err != nil {
		return err
	}
	return sub.Stop(ctx)
}

func remind(ctx context.Context, reminders *patterns.WorkQueue[Reminder], text string, in time.Duration) error {
	r := Reminder{Text: text, Due: time.Now().Add(in)}
	if in <= 0 {
		return reminders.Send(ctx, r)
	}
	return reminders.Send(ctx, r, patterns.Delay(in))
}
