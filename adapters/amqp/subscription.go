package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// subscription outlives its consumers.
type subscription struct {
	d          *Driver
	source     adapters.Source
	supervisor *supervisor
	address    atomic.Pointer[string]
	view       atomic.Pointer[view]
	quiet      chan struct{} // closed when nothing more will be received

	life context.Context // ends with the subscription
	kill context.CancelFunc

	mu  sync.Mutex // for writing view, and
	err error      // why the subscription ended
}

// view is what Receive needs to know.
type view struct {
	consumer *consumer // nil while there is none
	err      error
	changed  chan struct{} // closed when there is another view
}

// Subscribe implements [adapters.Driver].
func (d *Driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := d.checkCall(ctx, "subscribe", validateSubscribe(s)); err != nil {
		return nil, err
	}
	s.Keys = slices.Clone(s.Keys)
	sub := &subscription{d: d, source: s, quiet: make(chan struct{})}
	sub.life, sub.kill = context.WithCancel(context.Background())
	sub.view.Store(&view{changed: make(chan struct{})})
	var err error
	if sub.supervisor, err = d.reserveChannel(); err != nil {
		return nil, err
	}
	var c *consumer
	err = d.withConnection(ctx, &sub.supervisor, s.QueueName(), func(conn *connection) (err error) {
		c, err = sub.openConsumer(ctx, conn)
		return err
	})
	if err != nil {
		d.releaseChannel(sub.supervisor)
		return nil, fmt.Errorf("amqp: subscribe to %s: %w", describe(s), err)
	}
	d.shareConnection(sub.supervisor)
	sub.warnOfTimeout(c.conn)
	return sub, sub.begin(c)
}

func validateSubscribe(s adapters.Source) error {
	if err := s.ValidateSubscribe(); err != nil {
		return fmt.Errorf("amqp: %w", err)
	}
	return validate(s)
}

// begin sets the subscription to work with its first consumer.
func (sub *subscription) begin(c *consumer) error {
	sub.show(c)
	sub.d.mu.Lock()
	sub.d.subs[sub] = struct{}{}
	sub.d.mu.Unlock()
	if sub.d.spawn(func() { sub.run(c) }) {
		return nil
	}
	sub.end(adapters.ErrClosed)
	return adapters.ErrClosed
}

// show lets a consumer be received from.
func (sub *subscription) show(c *consumer) {
	if c != nil {
		sub.address.Store(&c.queue)
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.err == nil {
		old := sub.view.Swap(&view{consumer: c, changed: make(chan struct{})})
		close(old.changed)
	}
}

// end ends the subscription; why is what Receive says from now on.
func (sub *subscription) end(why error) {
	sub.mu.Lock()
	first := sub.err == nil
	if first {
		sub.err = why
		old := sub.view.Swap(&view{err: why, changed: make(chan struct{})})
		close(old.changed)
	}
	sub.mu.Unlock()
	if !first {
		return
	}
	sub.d.mu.Lock()
	delete(sub.d.subs, sub)
	sub.d.mu.Unlock()
	sub.kill()
}

// flush tells the broker now what was acknowledged.
func (sub *subscription) flush() {
	if c := sub.view.Load().consumer; c != nil {
		c.ledger.ring()
	}
}

// run looks after the consumer, and replaces one that is gone.
func (sub *subscription) run(c *consumer) {
	defer func() { sub.d.releaseChannel(sub.supervisor) }()
	quiet := sync.OnceFunc(func() { close(sub.quiet) })
	defer quiet()
	for {
		if !c.watch() {
			sub.finish(c, quiet)
			return
		}
		sub.show(nil)
		if c = sub.heal(c.conn); c == nil {
			sub.end(adapters.ErrClosed) // unless it has ended: Close did not know of one that had just begun
			return
		}
	}
}

// finish is for when the subscription has ended, and c has not.
func (sub *subscription) finish(c *consumer, quiet func()) {
	if errors.Is(sub.why(), adapters.ErrClosed) {
		// The connection is about to go, and gives back everything; what is
		// acknowledged has to be told before, and publishers are not to notice.
		c.ledger.stop()
		c.unbind()
		quiet()
		c.lose(<-c.closes)
		return
	}
	c.retire(true, quiet)
}

// heal returns a new consumer, or nil if the subscription has ended. The last one was of session lost.
func (sub *subscription) heal(lost *connection) *consumer {
	d := sub.d
	pause := backoff{min: d.cfg.BackoffMin, max: d.cfg.BackoffMax}
	costly, ok := errors.AsType[*costlyError](lost.connectionError(sub.source.QueueName()))
	if ok && costly.certain && !sub.goesOn(costly) {
		return nil
	}
	for {
		conn, err := sub.supervisor.connection(sub.life)
		if err != nil {
			return nil // stopped or closed; connection waits for all else
		}
		c, err := sub.openConsumer(sub.life, conn)
		switch {
		case err == nil:
			d.shareConnection(sub.supervisor)
			sub.show(c)
			return c
		case sub.life.Err() != nil:
			return nil
		case errors.Is(err, errForeign):
			continue
		}
		if err = d.finalError(sub.life, conn, err, sub.source.QueueName()); err != nil && !sub.goesOn(err) {
			return nil
		}
		sleep(sub.life, pause.wait())
	}
}

// goesOn reports whether the subscription is tried again after an error, or ends it.
func (sub *subscription) goesOn(err error) bool {
	if sub.life.Err() != nil {
		return false
	}
	err = sub.d.isolateSuspect(sub.life, &sub.supervisor, err)
	switch {
	case err == nil:
		return true
	case errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrUnsupported), errors.Is(err, adapters.ErrInvalid),
		errors.Is(err, adapters.ErrNotFound) && sub.source.Passive:
		sub.end(fmt.Errorf("amqp: subscription to %s: %w", describe(sub.source), err))
		return false
	}
	sub.d.cfg.Logger.Warn("motif: subscribing again", "source", describe(sub.source), "error", err)
	return true
}

func (sub *subscription) why() error {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.err
}

// Receive implements [adapters.Subscription].
func (sub *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return adapters.Delivery{}, fmt.Errorf("amqp: receive: %w", err)
		}
		v := sub.view.Load()
		if v.err != nil {
			return adapters.Delivery{}, v.err
		}
		if v.consumer == nil {
			select {
			case <-v.changed:
			case <-ctx.Done():
			}
			continue
		}
		if d, ok := v.receive(ctx); ok {
			return d, nil
		}
	}
}

// receive returns the next message of v's consumer, or false if there was none
// and things may have changed.
func (v *view) receive(ctx context.Context) (adapters.Delivery, bool) {
	c := v.consumer
	select {
	case h := <-c.channel.arrived:
		return c.hand(h)
	default:
	}
	c.ledger.idle()
	select {
	case h := <-c.channel.arrived:
		return c.hand(h)
	case <-v.changed:
	case <-ctx.Done():
	}
	return adapters.Delivery{}, false
}

// stopTime is how long Stop waits for the broker.
const stopTime = 500 * time.Millisecond

// Stop implements [adapters.Subscription]. Nothing is received from here on in
// any case: the broker is waited for so that what it sent before is back in the queue, but
// not for long, for it may stand still.
func (sub *subscription) Stop() error {
	sub.end(adapters.ErrStopped)
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-sub.quiet:
	case <-timer.C:
	}
	return nil
}

// Address implements [adapters.Subscription].
func (sub *subscription) Address() string { return *sub.address.Load() }

// reserve returns a link with room for one more subscription, and makes one if
// there is none: a connection carries so many channels and no more.
func (d *Driver) reserveChannel() (*supervisor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return nil, adapters.ErrClosed
	}
	for _, sup := range d.consumers {
		if !sup.dedicated && sup.used < sup.capacity() {
			sup.used++
			return sup, nil
		}
	}
	sup := newSupervisor(d, "consume")
	sup.used = 1
	d.consumers = append(d.consumers, sup)
	d.wg.Go(func() { sup.run(nil) })
	return sup, nil
}

func (d *Driver) releaseChannel(sup *supervisor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sup.used--
	if sup.dedicated {
		sup.stop()
		d.consumers = slices.DeleteFunc(d.consumers, func(other *supervisor) bool { return other == sup })
		<-d.dedicatedSlots
	}
}

// room is how many subscriptions the link carries: as many as there are
// channels, less a few for what is done in passing.
func (sup *supervisor) capacity() int {
	channels := int(sup.driver.channelMax.Load())
	return max(1, channels-2*controlChannels(channels))
}
