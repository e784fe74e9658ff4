package patterns

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// A Gate decides when a subscription fetches messages. What it holds back waits at the broker,
// where others can have it, and not in this process. Its methods are called by several goroutines
// at a time if it is given to several subscriptions.
type Gate interface {
	// Wait returns when a message may be fetched. If ahead is true others may be fetched besides,
	// as many as [Prefetch] says; if not it is this one alone, and Wait is called again before the
	// next. While Wait waits nothing is fetched, and what was fetched ahead goes back to its queue.
	//
	// It returns an error when ctx ends, which is when the subscription is stopped or paused. Any
	// other error ends the subscription, whose Wait returns it, and so does a panic, as a
	// [*PanicError].
	//
	// What Wait has let be fetched may come late, where the queue was empty: up to as many messages
	// as there are workers after the gate has closed.
	Wait(ctx context.Context) (ahead bool, err error)

	// Fetched is called for each message that was fetched, before it is handled. It must not block.
	Fetched()
}

// WithGate has gates decide when a subscription fetches messages: all of them have to be open. One
// message at a time is asked for where a gate wants it so, which takes the broker more work than a
// subscription does: on RabbitMQ a few round trips for each, and a write to disk. A private
// subscription, whose messages nobody else can have, keeps what it has fetched.
//
// Where all gates have methods Reserve() and Release(), several workers fetch at a time, each one
// message: Reserve is called when Wait has returned, before the next Wait, in place of Fetched.
// Release takes it back, if there was no message.
//
// A gate with a method Validate(prefetch int) error is asked whether it makes sense, with the
// number that [Prefetch] was given, or 0: for a gate that lets nothing be fetched ahead it would
// have no effect. That of a private subscription always has one, so that it is 0 there.
func WithGate(gates ...Gate) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		for i, gate := range gates {
			if gate == nil {
				return invalid("gate %d is nil", i)
			}
		}
		c.gates = append(c.gates, gates...)
		return nil
	}}
}

// Options makes one option of several, as for all subscriptions of a program.
func Options(opts ...WorkOption) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		return apply(opts, func(o WorkOption) error { return o.applyWork(c) })
	}}
}

// gated is a subscription of a driver's behind gates.
type gated struct {
	s       *Subscription
	src     adapters.Source
	private adapters.Subscription // of a private source, else nil
	turn    chan struct{}         // held by who asks the gates

	reservers []reserver  // all gates, or none
	more      atomic.Bool // messages were left behind the last one

	mu      sync.Mutex
	ahead   adapters.Subscription // while messages are fetched ahead
	stopped bool
}

// reserver is a gate that lets several workers fetch at a time, see [WithGate].
type reserver interface {
	Reserve()
	Release()
}

// newGated declares the source, so that what is wrong with it is found out at once.
func (s *Subscription) newGated(ctx context.Context, src adapters.Source) (adapters.Subscription, error) {
	g := &gated{s: s, src: src, turn: make(chan struct{}, 1)}
	for _, gate := range s.cfg.gates {
		if r, ok := gate.(reserver); ok {
			g.reservers = append(g.reservers, r)
		}
	}
	if len(g.reservers) < len(s.cfg.gates) {
		g.reservers = nil
	}
	var err error
	if src.Private() {
		g.private, err = s.bus.driver.Subscribe(ctx, src)
	} else {
		err = s.bus.driver.Declare(ctx, src)
	}
	return g, err
}

// Receive implements [adapters.Subscription].
func (g *gated) Receive(ctx context.Context) (adapters.Delivery, error) {
	for {
		d, sub, err := g.receiveOne(ctx)
		if errors.Is(err, errNoneLeft) {
			continue
		}
		if sub != nil {
			d, err = sub.Receive(ctx)
			if errors.Is(err, adapters.ErrStopped) && ctx.Err() == nil && !g.isStopped() {
				continue // a gate closed
			}
			if err == nil {
				err = g.fetched(&d)
			}
		}
		return d, err
	}
}

// receiveOne waits for the gates and fetches one message, or returns where to receive it if it need
// not be fetched alone.
func (g *gated) receiveOne(ctx context.Context) (d adapters.Delivery, sub adapters.Subscription, err error) {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return d, nil, ctx.Err()
	}
	endTurn := sync.OnceFunc(func() { <-g.turn })
	defer endTurn()
	ahead, err := g.wait(ctx)
	switch {
	case err != nil:
		return d, nil, err
	case ahead && g.private != nil:
		return d, g.private, nil
	case ahead:
		sub, err = retryUnavailable(ctx, g.open)
		return d, sub, err
	case g.private != nil:
		d, err = g.private.Receive(ctx)
	case g.reservers != nil && g.more.Load():
		g.stopAhead()
		if err = g.each(reserver.Reserve); err == nil {
			endTurn()
			d, err = g.fetchReserved(ctx)
		}
		return d, nil, err
	default:
		g.stopAhead()
		d, err = retryUnavailable(ctx, g.fetchOne)
	}
	if err == nil {
		err = g.fetched(&d)
	}
	return d, nil, err
}

// wait returns when all gates are open. If that takes a while, what was fetched ahead goes back.
func (g *gated) wait(ctx context.Context) (ahead bool, err error) {
	closed := time.AfterFunc(fetchGrace, g.stopAhead)
	defer closed.Stop()
	ahead = true
	for _, gate := range g.s.cfg.gates {
		more, err := ask(ctx, gate)
		if err != nil {
			return false, err
		}
		ahead = ahead && more
	}
	return ahead, nil
}

// ask calls gate.Wait and makes an error of its panic.
func ask(ctx context.Context, gate Gate) (ahead bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return gate.Wait(ctx)
}

// fetched tells the gates of d. If one of them panics it returns that as an error, and d goes back.
func (g *gated) fetched(d *adapters.Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.Join(&PanicError{Value: v, Stack: debug.Stack()}, d.Settle(g.s.settling, adapters.Requeue))
		}
	}()
	for _, gate := range g.s.cfg.gates {
		gate.Fetched()
	}
	return nil
}

// open returns the subscription that fetches ahead.
func (g *gated) open(ctx context.Context) (adapters.Subscription, error) {
	g.mu.Lock()
	sub, stopped := g.ahead, g.stopped
	g.mu.Unlock()
	switch {
	case stopped:
		return nil, adapters.ErrStopped
	case sub != nil:
		return sub, nil
	}
	sub, err := g.s.bus.driver.Subscribe(ctx, g.src)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, errors.Join(adapters.ErrStopped, sub.Stop())
	}
	g.ahead = sub
	return sub, nil
}

// errNoneLeft is for a message that was expected and is not there: the gates are to be asked again.
var errNoneLeft = errors.New("no message is left")

// fetchReserved gets one message, while other workers may get others. Only if there are some: one
// worker is enough to wait for more.
func (g *gated) fetchReserved(ctx context.Context) (adapters.Delivery, error) {
	d, err := g.get(ctx)
	if err == nil {
		return d, nil
	}
	if failed := g.each(reserver.Release); failed != nil || ctx.Err() != nil {
		return d, errors.Join(failed, ctx.Err())
	}
	return d, errNoneLeft // what else it may be, fetchOne finds out
}

// each calls a method of all gates and makes an error of a panic.
func (g *gated) each(method func(reserver)) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	for _, r := range g.reservers {
		method(r)
	}
	return nil
}

// get gets a message that is there.
func (g *gated) get(ctx context.Context) (adapters.Delivery, error) {
	d, err := g.s.bus.driver.(adapters.Getter).Get(ctx, g.src)
	g.more.Store(err == nil && d.Remaining > 0)
	return d, err
}

// fetchOne waits for one message with nothing fetched behind it.
func (g *gated) fetchOne(ctx context.Context) (adapters.Delivery, error) {
	driver := g.s.bus.driver
	if _, ok := driver.(adapters.Getter); ok && g.s.bus.features.Ability.Has(adapters.CanGet) {
		if d, err := g.get(ctx); !errors.Is(err, adapters.ErrEmpty) {
			return d, err
		}
	}
	src := g.src
	src.Prefetch = 1
	sub, err := driver.Subscribe(ctx, src)
	if err != nil {
		return adapters.Delivery{}, err
	}
	d, err := sub.Receive(ctx)
	_ = sub.Stop() // what is in hand stays so
	return d, err
}

// retryUnavailable calls f until it has an outcome that does not pass.
func retryUnavailable[T any](ctx context.Context, f func(context.Context) (T, error)) (v T, err error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		v, err = f(ctx)
		if !errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, adapters.ErrSessionLost) || sleep(ctx, wait) != nil {
			return v, err
		}
	}
}

// stopAhead ends the subscription that fetches ahead, and requeues what it fetched.
func (g *gated) stopAhead() {
	g.mu.Lock()
	sub := g.ahead
	g.ahead = nil
	g.mu.Unlock()
	if sub == nil {
		return
	}
	if g.s.hasSuspects.Load() {
		g.s.requeueSuspects(sub)
	}
	if err := sub.Stop(); err != nil {
		g.s.bus.log.Warn("motif: pausing a subscription", "queue", g.s.queue, "error", err)
	}
}

// fetchesAhead reports whether a message that is received now may have been fetched behind another.
func (g *gated) fetchesAhead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ahead != nil || g.private != nil
}

func (g *gated) isStopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

// Stop implements [adapters.Subscription].
func (g *gated) Stop() error {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.stopAhead()
	if g.private != nil {
		return g.private.Stop()
	}
	return nil
}

// Address implements [adapters.Subscription].
func (g *gated) Address() string { return g.s.queue }
