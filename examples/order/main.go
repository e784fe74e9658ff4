// Order handles the messages of one account in order, and many accounts at the same time.
//
//	go run ./examples/order
//
// Four workers handle the steps of three accounts. OrderBy has the steps of each account handled
// one after another, also when one fails: those behind it wait until it is tried again, while the
// other accounts go on. With OvertakeRetries they do not wait, and ann's account is closed before
// the deposit is made.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

// Step is something that happens to an account.
type Step struct {
	Account string
	What    string
}

var (
	accounts = []string{"ann", "bob", "cem"}
	steps    = []string{"open", "deposit", "withdraw", "close"}
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanRequeue} // a message that comes back keeps its place
	if err := demo.Flags("order", &opts).Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	queue := patterns.NewWorkQueue[Step](bus, "order")
	if err := demo.Clear(ctx, queue); err != nil {
		return err
	}
	fmt.Fprintln(out, "in order:")
	if err := handle(ctx, queue, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "where retries are overtaken:")
	return handle(ctx, queue, out, patterns.OvertakeRetries())
}

// handle sends all steps, and prints for each account how they were handled.
func handle(ctx context.Context, queue *patterns.WorkQueue[Step], out io.Writer, more ...patterns.WorkOption) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, what := range steps {
		for _, account := range accounts {
			if err := queue.Send(ctx, Step{account, what}); err != nil {
				return err
			}
		}
	}

	var mu sync.Mutex
	history := map[string][]string{}
	note := func(account, what string) {
		mu.Lock()
		defer mu.Unlock()
		history[account] = append(history[account], what)
	}
	done := make(chan string, len(steps)*len(accounts))
	sub, err := queue.Work(ctx, func(ctx context.Context, s Step) error {
		if err := demo.Busy(ctx, 5*time.Millisecond); err != nil {
			return err
		}
		d, _ := patterns.DeliveryFrom(ctx)
		if s == (Step{"ann", "deposit"}) && d.Attempt == 1 {
			note(s.Account, s.What+" (failed)")
			return errors.New("the database is busy")
		}
		note(s.Account, s.What)
		done <- s.What
		return nil
	}, append(more,
		patterns.OrderBy(func(s Step) string { return s.Account }), // the key
		patterns.Workers(4),
		patterns.Retry(patterns.RetryPolicy{Min: 500 * time.Millisecond}))...)
	if err != nil {
		return err
	}
	if _, err := demo.Collect(ctx, done, cap(done)); err != nil {
		return err
	}
	for _, account := range accounts {
		fmt.Fprintf(out, "  %s: %s\n", account, strings.Join(history[account], ", "))
	}
	stop()
	return sub.Wait()
}
