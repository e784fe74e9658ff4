package main

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

const (
	// patience is how long nothing may happen, over what the simulated work
	// takes, until those who wait give up.
	patience = 30 * time.Second

	askAgain = 100 * time.Millisecond // after this, where there was no answer
)

// evening is the order service and its customers, and with -role all every
// other service too.
type evening struct {
	wire
	opts  options
	out   *screen
	tally *tally
	front orderService
	down  atomic.Value // the name of the service that is
}

func peak(ctx context.Context, w wire, out *screen, opts options) error {
	orders, err := loadOrders(opts.orders, out.say)
	if err != nil {
		return err
	}
	e := &evening{wire: w, opts: opts, out: out, tally: newTally(rand.Text(), opts.names())}
	e.down.Store(opts.fail)
	open := context.WithoutCancel(ctx) // Ctrl-C ends the intake; the rest ends with the bus
	if err := e.open(open); err != nil {
		return err
	}
	e.scene(len(orders))
	began := time.Now()
	stop := out.follow(func() string { return e.tally.line(began, len(orders), e.down.Load().(string)) })
	e.customers(ctx, orders)
	if ctx.Err() != nil {
		out.say("No more orders are taken; those in hand are finished.")
	}
	if opts.fail != "" {
		err = e.comeBack(open, opts.fail, began)
	}
	e.await(opts.names())
	stop()
	out.say("%s", e.tally.report())
	return errors.Join(err, e.tally.verdict())
}

// open starts what is to run in this process.
func (e *evening) open(ctx context.Context) error {
	if _, err := e.done.Subscribe(ctx, e.tally.done, patterns.Group("screen"), patterns.Prefetch(100)); err != nil {
		return err
	}
	for _, name := range e.opts.names() {
		// The queue is there before the first order: whenever the service
		// comes, it has missed nothing.
		if err := e.placed.Declare(ctx, patterns.Group(name)); err != nil {
			return err
		}
		if e.opts.Role == "all" && name != e.opts.fail {
			if err := e.start(ctx, name); err != nil {
				return err
			}
		}
	}
	e.front = orderService{wire: e.wire, run: e.tally.run, payment: e.opts.scaled(paymentTime)}
	return e.front.start(ctx)
}

func (e *evening) start(ctx context.Context, name string) error {
	s := &service{wire: e.wire, name: name, takes: e.opts.scaled(serviceTime)}
	_, err := s.start(ctx)
	return err
}

func (e *evening) await(names []string) {
	e.tally.await(patience+10*e.opts.scaled(serviceTime), names...)
}

// comeBack starts the service that was down, once all others are done.
func (e *evening) comeBack(ctx context.Context, name string, began time.Time) error {
	others := slices.DeleteFunc(slices.Clone(e.opts.names()), func(n string) bool { return n == name })
	e.await(others)
	e.out.say("%s is back after %v, and %d orders wait in its queue.\n"+
		"Nobody else waited: %s have %d orders left to do.",
		name, round(time.Since(began)), e.tally.owed(name), list(others), e.tally.owed(others...))
	e.down.Store("")
	return e.start(ctx, name)
}

// customers has one customer come every so often and ask for an order, and
// returns when all have their answer. When ctx ends no more of them come, but
// those who have asked still get theirs.
func (e *evening) customers(ctx context.Context, orders []Order) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	door := time.NewTicker(e.opts.scaled(orderEvery))
	defer door.Stop()
	for _, o := range orders {
		select {
		case <-door.C:
		case <-ctx.Done():
			return
		}
		waiting.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience+10*e.opts.scaled(paymentTime))
			defer cancel()
			asked := time.Now()
			err := e.ask(ctx, o)
			e.tally.answered(o.ID, time.Since(asked), err)
		})
	}
}

// ask places an order. Where there is no answer, as while a broker is being
// restarted, it asks again: the order may be placed twice then, and its
// services see it twice.
func (e *evening) ask(ctx context.Context, o Order) error {
	ask := e.place.Call
	if !e.calls {
		ask = func(ctx context.Context, o Order, _ ...patterns.CallOption) (Receipt, error) {
			return e.front.order(ctx, o)
		}
	}
	for {
		_, err := ask(ctx, o)
		if !unanswered(err) || work(ctx, askAgain) != nil {
			return err
		}
	}
}

// unanswered reports whether err says only that it is not known, or was not
// possible, to place an order.
func unanswered(err error) bool {
	return slices.ContainsFunc([]error{
		patterns.ErrNoServer,    // not back yet
		adapters.ErrSessionLost, // the answer has no way back
		adapters.ErrUnconfirmed, // the request, or order-placed: see errorCodes
		adapters.ErrNacked,
	}, func(target error) bool { return errors.Is(err, target) })
}

// scene says what is going to be seen.
func (e *evening) scene(orders int) {
	o := e.opts
	e.out.say("A dinner peak: %d orders, one every %v. For each the order service confirms\n"+
		"the payment (%v), publishes order-placed, and answers the customer.\n"+
		"%s (%v each) take their own copy.",
		orders, o.scaled(orderEvery), o.scaled(paymentTime), list(o.names()), o.scaled(serviceTime))
	if !e.calls {
		e.out.say("This broker carries no calls: customers ask by calling a function.")
	}
	switch {
	case o.Role == "order":
		e.out.say("They are processes of their own: -role NAME starts each, now or later.")
	case o.fail != "":
		e.out.say("%s is down until all customers have their answer.", o.fail)
	}
	e.out.say("")
}

// list is names as a sentence has them.
func list(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
