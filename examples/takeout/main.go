// Takeout is a food-delivery system at dinner time, and the reason to publish
// an event rather than to call everyone who wants to know.
//
// A customer asks the order service (RPC), which confirms the payment (500 ms),
// publishes order-placed (PubSub) and answers at once. Rider, merchant and
// ledger (300 ms each) are groups of that event: each has a queue of its own,
// with a copy of every order. So the customer waits for one step, not for four; a
// service that is down delays nobody, and finds its orders when it returns; a
// new service needs no change to the order service; and nothing is lost, which
// the program counts, id by id, and exits with 1 if it is not so.
//
//	go run ./examples/takeout                 # about 4 s
//	go run ./examples/takeout -fail merchant  # merchant is down all through the peak
//	go run ./examples/takeout -with coupons   # one service more
//	go run ./examples/takeout -orders FILE    # other orders, one JSON object a line
//	go run ./examples/takeout -scale 0.2      # all in a fifth of the time
//
// With -broker jetstream:///tmp/takeout the orders are on the disk, and nothing has to be
// installed: end the program in the middle, however you like, and start it again.
//
// On Kafka (-broker kafka://host:9092) customers call a function instead: Motif has no RPC there.
//
// On a real broker each part can be a process of its own: give -broker
// amqp://... with -role order, rider, merchant, ledger or coupons. Restart the
// broker in the middle if you like: customers without a reply ask again, and
// nothing is lost. Ctrl-C ends the intake and finishes what is in hand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/examples/internal/demo"
)

func main() { demo.Main(run) }

// What a step takes, and how often an order comes in, at -scale 1.
const (
	paymentTime = 500 * time.Millisecond
	serviceTime = 300 * time.Millisecond
	orderEvery  = 10 * time.Millisecond
)

var (
	services = []string{"rider", "merchant", "ledger"}
	extra    = []string{"coupons"} // for -with
	roles    = slices.Concat([]string{"all", "order"}, services, extra)
)

type options struct {
	demo.Options
	orders, fail, with string
	scale              float64
}

func run(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parse(args)
	if err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx, errorCodes...)
	if err != nil {
		return err
	}
	w, s := newWire(bus), newScreen(out)
	switch opts.Role {
	case "all", "order":
		err = peak(ctx, w, s, opts)
	default:
		err = serveAlone(ctx, w, s, opts)
	}
	return errors.Join(err, closeBus())
}

func parse(args []string) (options, error) {
	var o options
	fs := demo.Flags("takeout", &o.Options, roles...)
	fs.StringVar(&o.orders, "orders", "", "`FILE` of orders, one JSON object a line (default: 300 that come with the program)")
	fs.StringVar(&o.fail, "fail", "", "`SERVICE` that is down until the peak is over: "+strings.Join(services, ", "))
	fs.StringVar(&o.with, "with", "", "`SERVICE` that joins: "+strings.Join(extra, ", "))
	fs.Float64Var(&o.scale, "scale", 1, "how long the simulated work takes: 0.2 is a fifth of the time")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(fs.Args())
}

func (o options) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case !slices.Contains(roles, o.Role):
		return fmt.Errorf("-role %q: must be one of %s", o.Role, strings.Join(roles, ", "))
	case o.InProcess() && o.Role != "all":
		return fmt.Errorf("-role %s: a memory broker lives in this process alone, so all roles must too (-role all, or -broker amqp://...)", o.Role)
	case o.with != "" && !slices.Contains(extra, o.with):
		return fmt.Errorf("-with %q: must be one of %s", o.with, strings.Join(extra, ", "))
	case o.fail != "" && !slices.Contains(o.names(), o.fail):
		return fmt.Errorf("-fail %q: must be one of %s", o.fail, strings.Join(o.names(), ", "))
	case o.fail != "" && o.Role != "all":
		return errors.New("-fail is for -role all; with a process for each role, start that one late")
	case !(o.scale >= 0.001 && o.scale <= 1000): // not NaN either
		return fmt.Errorf("-scale %v: must be from 0.001 to 1000", o.scale)
	}
	return nil
}

// names are the services that are to handle every order.
func (o options) names() []string {
	if o.with == "" {
		return services
	}
	return append(slices.Clone(services), o.with)
}

// scaled is what d takes in this run.
func (o options) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * o.scale)
}
