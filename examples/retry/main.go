// Retry shows who decides when a failed message is tried again, and how often.
//
//	go run ./examples/retry
//
// Four payments go to a handler that fails in four ways. An ordinary error leaves the decision to
// the retry policy: here at most three attempts, the wait doubling from 100 ms, and up to a tenth
// longer at random. RetryAfter says when, in place of the policy, and still counts as an attempt.
// Reject says that another attempt would not help: the message goes to the dead letters at once,
// as it does after its last attempt.
//
// A message that waits does so at the broker and holds no worker: the only one there is here
// handles the other payments in the meantime.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

// Payment is a card to charge.
type Payment struct{ Card string }

var payments = []string{"busy", "down", "slow", "stolen"}

// charge fails for a reason that the card's name says.
func charge(ctx context.Context, p Payment) error {
	d, _ := patterns.DeliveryFrom(ctx)
	switch {
	case p.Card == "stolen":
		return patterns.Reject(errors.New("card is stolen"))
	case p.Card == "busy" && d.Attempt == 1: // the bank said when to come back
		return patterns.RetryAfter(300*time.Millisecond, errors.New("too many requests"))
	case p.Card == "down", p.Card == "slow" && d.Attempt <= 2:
		return errors.New("bank does not answer")
	}
	return nil
}

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	if err := demo.Flags("retry", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	queue := patterns.NewWorkQueue[Payment](bus, "retry")
	if err := errors.Join(demo.Clear(ctx, queue), demo.Clear(ctx, queue.Dead())); err != nil {
		return err
	}
	for _, card := range payments {
		if err := queue.Send(ctx, Payment{Card: card}, patterns.MessageID(card)); err != nil {
			return err
		}
	}

	settled := make(chan patterns.Settlement, 100)
	watch := patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { settled <- s })
	policy := patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond})
	sub, err := queue.Work(ctx, charge, policy, watch)
	if err != nil {
		return err
	}
	var attempts []patterns.Settlement
	for ended := 0; ended < len(payments); {
		select {
		case s := <-settled:
			attempts = append(attempts, s)
			if s.Result == patterns.ResultAcknowledged || s.Result == patterns.ResultDeadLettered {
				ended++
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	slices.SortFunc(attempts, func(a, b patterns.Settlement) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Attempt, b.Attempt))
	})
	for _, s := range attempts {
		fmt.Fprintf(out, "%-6s  attempt %d: %s", s.ID, s.Attempt, s.Result)
		if s.RetryIn > 0 {
			fmt.Fprintf(out, ", again in %v", s.RetryIn.Round(100*time.Millisecond))
		}
		if s.Err != nil {
			fmt.Fprintf(out, " (%v)", s.Err)
		}
		fmt.Fprintln(out)
	}
	return sub.Stop(ctx)
}
