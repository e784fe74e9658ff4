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
	"github.com/motifmq/motif/adapters/kit"
)

// subscription is a subscription of the seam. It outlives its consumers.
type subscription struct {
	driver     *Driver
	source     adapters.Source
	supervisor *supervisor
	began      time.Time
	address    atomic.Pointer[string]
	state      atomic.Pointer[receiveState]
	stopped    chan struct{} // closed once nothing more will be received
	returns    atomic.Bool   // it is ended by StopAndReturn

	ctx    context.Context // ends with the subscription
	cancel context.CancelFunc

	mu  sync.Mutex // held while state is replaced
	err error      // why the subscription ended, or nil
}

// receiveState is what Receive needs to know.
type receiveState struct {
	consumer *consumer // nil while there is none
	err      error
	changed  chan struct{} // closed when there is another state
}

// Subscribe implements [adapters.Driver].
func (d *Driver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := d.checkCall(ctx, "subscribe", validateSubscribe(s)); err != nil {
		return nil, err
	}
	s.Keys = slices.Clone(s.Keys)
	sub := &subscription{driver: d, source: s, began: time.Now(), stopped: make(chan struct{})}
	sub.ctx, sub.cancel = context.WithCancel(context.Background())
	sub.state.Store(&receiveState{changed: make(chan struct{})})
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
		return nil, fmt.Errorf("amqp: subscribe to %s: %w", sourceName(s), err)
	}
	d.shareConnection(sub.supervisor)
	sub.warnOfTimeout(c.conn)
	return sub, sub.begin(c)
}

func validateSubscribe(s adapters.Source) error {
	if err := s.ValidateSubscribe(); err != nil {
		return fmt.Errorf("amqp: %w", err)
	}
	return validateSource(s)
}

// begin puts the subscription to work with its first consumer.
func (sub *subscription) begin(c *consumer) error {
	sub.setConsumer(c)
	sub.driver.mu.Lock()
	sub.driver.subs[sub] = struct{}{}
	sub.driver.mu.Unlock()
	if sub.driver.tasks.Go(func() { sub.run(c) }) {
		return nil
	}
	sub.end(adapters.ErrClosed)
	return adapters.ErrClosed
}

// setConsumer lets receivers use a consumer.
func (sub *subscription) setConsumer(c *consumer) {
	if c != nil {
		sub.address.Store(&c.queue)
	}
	sub.driver.idle.moves.Add(1)
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.err == nil {
		old := sub.state.Swap(&receiveState{consumer: c, changed: make(chan struct{})})
		close(old.changed)
	}
}

// end ends the subscription; why is what Receive returns from then on.
func (sub *subscription) end(why error) {
	sub.mu.Lock()
	first := sub.err == nil
	if first {
		sub.err = why
		old := sub.state.Swap(&receiveState{err: why, changed: make(chan struct{})})
		close(old.changed)
	}
	sub.mu.Unlock()
	if !first {
		return
	}
	sub.driver.idle.moves.Add(1)
	sub.driver.idle.ending.Add(1)
	sub.driver.mu.Lock()
	delete(sub.driver.subs, sub)
	sub.driver.mu.Unlock()
	sub.cancel()
}

// flush sends the acknowledgements that wait.
func (sub *subscription) flush() {
	if c := sub.state.Load().consumer; c != nil {
		c.ledger.flushNow()
	}
}

// run watches the consumer, and replaces one that is gone.
func (sub *subscription) run(c *consumer) {
	defer func() {
		sub.driver.releaseChannel(sub.supervisor)
		sub.driver.idle.ending.Add(-1)
	}()
	quiet := sync.OnceFunc(func() { close(sub.stopped) })
	defer quiet()
	for {
		if !c.watch() {
			sub.finish(c, quiet)
			return
		}
		sub.setConsumer(nil)
		if c = sub.resubscribe(c.conn); c == nil {
			sub.end(adapters.ErrClosed) // no effect if it has ended; else Close did not know of it, for it had just begun
			return
		}
	}
}

// finish ends consumer c of a subscription that has ended.
func (sub *subscription) finish(c *consumer, quiet func()) {
	if errors.Is(sub.endReason(), adapters.ErrClosed) {
		// The connection is about to be closed, and returns everything: acknowledgements must be
		// sent before, and publishers must not notice.
		c.ledger.stop()
		c.calls.Lock()
		c.unbind()
		c.calls.Unlock()
		quiet()
		c.lost(<-c.closes)
		return
	}
	if sub.returns.Load() {
		c.returnAll()
		return
	}
	c.retire(true, quiet)
}

// resubscribe returns a new consumer, or nil if the subscription has ended. lost is the connection
// of the last one.
func (sub *subscription) resubscribe(lost *connection) *consumer {
	d := sub.driver
	pause := kit.Backoff{Min: d.cfg.BackoffMin, Max: d.cfg.BackoffMax}
	costly, ok := errors.AsType[*connectionError](lost.connectionError(sub.source.QueueName()))
	if ok && costly.certain && !sub.shouldRetry(costly) {
		return nil
	}
	for {
		conn, err := sub.supervisor.connection(sub.ctx)
		if err != nil || sub.ctx.Err() != nil { // a stop also ends the wait for a queue that was deleted
			return nil // stopped or closed: everything else is waited for
		}
		c, err := sub.openToTheEnd(conn)
		switch {
		case err == nil:
			d.shareConnection(sub.supervisor)
			sub.setConsumer(c)
			return c
		case sub.ctx.Err() != nil:
			return nil
		case errors.Is(err, errDeclareAgain):
			continue
		}
		if err = d.finalError(sub.ctx, conn, err, sub.source.QueueName()); err != nil && !sub.shouldRetry(err) {
			return nil
		}
		sleep(sub.ctx, pause.Next())
	}
}

// openToTheEnd opens a consumer though the subscription may be stopped meanwhile: the broker may
// have sent messages to it already, which Stop waits for to be back in the queue. Close does not.
func (sub *subscription) openToTheEnd(conn *connection) (*consumer, error) {
	ctx, cancel := context.WithCancel(conn.ctx)
	defer cancel()
	defer context.AfterFunc(sub.ctx, func() {
		if errors.Is(sub.endReason(), adapters.ErrClosed) {
			cancel()
		}
	})()
	return sub.openConsumer(ctx, conn)
}

// shouldRetry reports whether to subscribe again after err. If not, it ends the subscription.
func (sub *subscription) shouldRetry(err error) bool {
	if sub.ctx.Err() != nil {
		return false
	}
	err = sub.driver.isolateSuspect(sub.ctx, &sub.supervisor, err)
	switch {
	case err == nil:
		return true
	case errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrUnsupported), errors.Is(err, adapters.ErrInvalid),
		errors.Is(err, adapters.ErrNotFound) && sub.source.Passive:
		sub.end(fmt.Errorf("amqp: subscription to %s: %w", sourceName(sub.source), err))
		return false
	}
	sub.driver.cfg.Logger.Warn("motif: subscribing again", "source", sourceName(sub.source), "error", err)
	return true
}

func (sub *subscription) endReason() error {
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
		state := sub.state.Load()
		if state.err != nil {
			return adapters.Delivery{}, state.err
		}
		if state.consumer == nil {
			select {
			case <-state.changed:
			case <-ctx.Done():
			}
			continue
		}
		if d, ok := state.receive(ctx); ok {
			return d, nil
		}
	}
}

// receive returns the consumer's next message, or false if there was none and the state may have
// changed.
func (state *receiveState) receive(ctx context.Context) (adapters.Delivery, bool) {
	c := state.consumer
	select {
	case in := <-c.channel.deliveries:
		return c.deliver(in)
	default:
	}
	c.ledger.flushIfStarving()
	select {
	case in := <-c.channel.deliveries:
		return c.deliver(in)
	case <-state.changed:
	case <-ctx.Done():
	}
	return adapters.Delivery{}, false
}

// How long Stop and StopAndReturn wait for the broker: what the latter returns late, others pass.
const (
	stopTime   = 500 * time.Millisecond
	returnTime = 5 * time.Second
)

// Stop implements [adapters.Subscription]. Nothing is received any more from here on. Stop waits
// for the broker, so that what it sent before is back in the queue, but not for long, for the
// broker may be frozen.
func (sub *subscription) Stop() error {
	sub.end(adapters.ErrStopped)
	most := stopTime
	if sub.returns.Load() {
		most = returnTime
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-sub.stopped:
	case <-timer.C:
	}
	return nil
}

var _ adapters.Returner = (*subscription)(nil)

// StopAndReturn implements [adapters.Returner].
func (sub *subscription) StopAndReturn() error {
	sub.returns.Store(true)
	return sub.Stop()
}

// Address implements [adapters.Subscription].
func (sub *subscription) Address() string { return *sub.address.Load() }

// reserveChannel returns a supervisor whose connection has room for one more subscription, and
// makes one if there is none: a connection carries a limited number of channels.
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
	d.tasks.Go(func() { sup.run(nil) })
	return sup, nil
}

// releaseChannel gives a channel back. The connection goes with its last channel where another one
// has room, so that those for suspects do not stay.
func (d *Driver) releaseChannel(sup *supervisor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sup.used--
	spare := func(other *supervisor) bool { return other != sup && !other.dedicated && other.used < other.capacity() }
	switch {
	case sup.dedicated:
		<-d.dedicatedSlots
	case sup.used > 0 || !slices.ContainsFunc(d.consumers, spare):
		return
	}
	sup.stop()
	d.consumers = slices.DeleteFunc(d.consumers, func(other *supervisor) bool { return other == sup })
}

// capacity returns how many subscriptions a connection carries: one a channel, less a few channels
// for single operations.
func (sup *supervisor) capacity() int {
	channels := int(sup.driver.channelMax.Load())
	return max(1, channels-2*controlChannels(channels))
}
