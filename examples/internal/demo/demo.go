// Package demo is what the examples share around their one idea: flags, the
// broker, Ctrl-C.
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/amqp"      // makes amqp: and amqps: URLs known,
	_ "github.com/motifmq/motif/adapters/jetstream" // jetstream:, nats: and tls: ones,
	_ "github.com/motifmq/motif/adapters/kafka"     // kafka: and kafkas: ones,
	_ "github.com/motifmq/motif/adapters/memory"    // and memory: ones
	"github.com/motifmq/motif/patterns"
)

// Run is an example: it prints to out, and returns when it is done or soon
// after ctx ends.
type Run func(ctx context.Context, args []string, out io.Writer) error

// Main runs an example as a program. Ctrl-C ends its ctx, so that it drains; a
// second one ends it at once.
func Main(run Run) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal is the system's again
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted:", err)
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// Options are the flags that every example has.
type Options struct {
	Broker string
	Role   string           // "" if the example has no roles
	Needs  adapters.Ability // what the broker must be able to do, where it would be seen late

	roles []string
}

// Flags returns the flag set of an example, with -broker and, if there are
// roles, -role (the first is the default). Add the example's own flags to it, then Parse.
func Flags(name string, opts *Options, roles ...string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is Main's to print
	fs.Usage = func() {
		fs.SetOutput(os.Stderr)
		defer fs.SetOutput(io.Discard)
		fmt.Fprintf(os.Stderr, "Usage of %s:\n", name)
		fs.PrintDefaults()
	}
	fs.StringVar(&opts.Broker, "broker", "memory:", "`URL` of the broker: memory:, amqp://..., nats://..., kafka://..., or jetstream:///FOLDER")
	if opts.roles = roles; len(roles) > 0 {
		fs.StringVar(&opts.Role, "role", roles[0], "which part to run: "+strings.Join(roles, ", "))
	}
	return fs
}

// InProcess reports whether the broker lives in this process, so that every role
// must too.
func (o Options) InProcess() bool { return strings.HasPrefix(o.Broker, "memory:") }

// checkRole refuses a role that there is not, and one that would wait for
// others on a broker that they cannot reach.
func (o Options) checkRole() error {
	switch {
	case len(o.roles) == 0 || o.Role == o.roles[0]:
		return nil
	case !slices.Contains(o.roles, o.Role):
		return fmt.Errorf("there is no role %q, only: %s", o.Role, strings.Join(o.roles, ", "))
	case o.InProcess():
		return fmt.Errorf("role %q needs a broker that other processes reach too: give its URL with -broker", o.Role)
	}
	return nil
}

// Open opens the bus of an example, if its role makes sense there. The function
// it returns closes the bus, within ten seconds also after Ctrl-C.
func (o Options) Open(ctx context.Context, opts ...patterns.BusOption) (*patterns.Bus, func() error, error) {
	if err := o.checkRole(); err != nil {
		return nil, nil, err
	}
	bus, err := patterns.Open(ctx, o.Broker, opts...)
	if err != nil {
		return nil, nil, err
	}
	if err := bus.Driver().Features().Require(o.Needs); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("this example cannot run there: %w", err), Closer(ctx, bus)())
	}
	return bus, Closer(ctx, bus), nil
}

// New is Open on a driver that the example made itself.
func New(ctx context.Context, d adapters.Driver, opts ...patterns.BusOption) (*patterns.Bus, func() error) {
	bus := patterns.New(d, opts...)
	return bus, Closer(ctx, bus)
}

// Closer returns a function that closes bus, within ten seconds also after ctx
// has ended.
func Closer(ctx context.Context, bus *patterns.Bus) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return bus.Close(ctx)
	}
}

// Clear takes out of a queue what an earlier run left in it. Where the broker gives no single
// messages, that stays: what is left is what a run that was interrupted did not get to.
func Clear[T any](ctx context.Context, q *patterns.WorkQueue[T]) error {
	for {
		left, err := q.TryGet(ctx)
		switch {
		case errors.Is(err, adapters.ErrEmpty), errors.Is(err, adapters.ErrUnsupported):
			return nil
		case errors.Is(err, patterns.ErrCodec): // no T: it went to the dead letters
			continue
		case err != nil:
			return err
		}
		if err := left.Ack(ctx); err != nil {
			return err
		}
	}
}

// Collect receives n values, unless ctx ends before.
func Collect[T any](ctx context.Context, from <-chan T, n int) ([]T, error) {
	var all []T
	for len(all) < n {
		select {
		case v := <-from:
			all = append(all, v)
		case <-ctx.Done():
			return all, ctx.Err()
		}
	}
	return all, nil
}

// Busy is what handlers do here: it takes a while, unless ctx ends before.
func Busy(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
