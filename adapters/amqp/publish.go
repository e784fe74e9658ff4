package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
	"github.com/motifmq/motif/adapters/kit"
)

// Publish implements [adapters.Driver]. The messages of a call are in flight together, and together
// with those of other calls.
func (d *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	r, err := d.prepare(ctx, &p)
	switch {
	case err != nil:
		return err
	case len(msgs) != 1 && !r.detour:
		return d.publishAll(ctx, &r, msgs)
	}
	return kit.PublishEach(msgs, func(m *message.Message) error { return d.publish(ctx, &r, m) })
}

func (d *Driver) publish(ctx context.Context, r *route, m *message.Message) error {
	if r.detour {
		return d.publishDetoured(ctx, r, m)
	}
	return d.publishDirectly(ctx, r, m)
}

func (d *Driver) publishDirectly(ctx context.Context, r *route, m *message.Message) error {
	o, err := d.newOutgoing(r, m)
	if err != nil {
		return err
	}
	first, err := d.claimFirst(ctx, &o)
	switch {
	case err != nil:
		return err
	case first != nil:
		return d.publishFirst(ctx, &o, first)
	}
	err = d.publishConfirmed(ctx, &o)
	if d.retries(&o, err) {
		err = d.sendAgain(ctx, &o, err)
	}
	return err
}

// maxResends is how often a message is sent again because its channel was closed for another
// message. From the second time on it goes alone, so that only an exchange that is deleted again
// and again can be in the way.
const maxResends = 3

// publishConfirmed publishes o and waits for the confirm.
func (d *Driver) publishConfirmed(ctx context.Context, o *outgoing) (err error) {
	for range maxResends {
		if err = d.publishOnce(ctx, o); !errors.Is(err, errNotStored) {
			break
		}
		o.alone = true
	}
	return err
}

func (d *Driver) publishOnce(ctx context.Context, o *outgoing) error {
	if err := d.acquireInFlight(ctx); err != nil {
		return err
	}
	w := waiterPool.Get().(*waiter)
	if err := d.send(ctx, o, w.done); err != nil {
		<-d.inFlight
		waiterPool.Put(w)
		return err
	}
	return w.wait(ctx)
}

// waiter waits for the confirm of one publish.
type waiter struct {
	result chan error
	done   func(error)
}

var waiterPool = sync.Pool{New: func() any {
	w := &waiter{result: make(chan error, 1)}
	w.done = func(err error) { w.result <- err }
	return w
}}

func (w *waiter) wait(ctx context.Context) (err error) {
	select {
	case err = <-w.result:
	case <-ctx.Done():
		select {
		case err = <-w.result: // it came as well, and says more
		default:
			return fmt.Errorf("amqp: %w: %w", adapters.ErrUnconfirmed, ctx.Err()) // w still awaits its confirm
		}
	}
	waiterPool.Put(w)
	return err
}

func (d *Driver) publishAll(ctx context.Context, r *route, msgs []*message.Message) error {
	if err := d.ensureRoute(ctx, r); err != nil { // the same for all of them
		return err
	}
	b := kit.NewBatch(msgs)
	for i, m := range msgs {
		if err := d.publishNext(ctx, r, m, func(err error) { b.Resolve(i, err) }); err != nil {
			b.Resolve(i, err)
		}
	}
	failed, ok := errors.AsType[*adapters.PublishError](b.Wait(ctx))
	if !ok {
		return nil
	}
	kept := failed.Failed[:0]
	for _, f := range failed.Failed {
		if queueFailed(f.Err) {
			f.Err = d.retryInBatch(ctx, r, msgs[f.Index], f.Err)
		}
		if f.Err != nil {
			kept = append(kept, f)
		}
	}
	if failed.Failed = kept; len(kept) == 0 {
		return nil
	}
	return failed
}

// retryInBatch publishes a message that failed again, unless others of its batch would then have
// overtaken it.
func (d *Driver) retryInBatch(ctx context.Context, r *route, m *message.Message, failed error) error {
	o, err := d.newOutgoing(r, m)
	if err != nil || o.keepsOrder() || !d.retries(&o, failed) {
		return failed
	}
	return d.sendAgain(ctx, &o, failed)
}

// publishNext publishes one message of a batch. The first to a queue goes alone.
func (d *Driver) publishNext(ctx context.Context, r *route, m *message.Message, done func(error)) error {
	o, err := d.newOutgoing(r, m)
	if err != nil {
		return err
	}
	first, err := d.claimFirst(ctx, &o)
	if err != nil {
		return err
	}
	if first != nil {
		done(d.publishFirst(ctx, &o, first))
		return nil
	}
	if err := d.acquireInFlight(ctx); err != nil {
		return err
	}
	if err := d.send(ctx, &o, done); err != nil {
		<-d.inFlight
		return err
	}
	return nil
}

// PublishAsync implements [adapters.AsyncPublisher].
func (d *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	r, err := d.prepare(ctx, &p)
	if err != nil {
		return err
	}
	if r.detour { // one after the other, or those held back would be overtaken
		done(d.publish(ctx, &r, m))
		return nil
	}
	o, err := d.newOutgoing(&r, m)
	if err != nil {
		return err
	}
	first, err := d.claimFirst(ctx, &o)
	switch {
	case err != nil:
		return err
	case first != nil:
		return d.publishFirstAsync(ctx, &o, first, done)
	}
	if err := d.acquireInFlight(ctx); err != nil {
		return err
	}
	if err := d.sendRetryingNacks(ctx, &o, done); err != nil {
		<-d.inFlight
		return err
	}
	return nil
}

// prepare checks everything that does not depend on the message.
func (d *Driver) prepare(ctx context.Context, p *adapters.Publication) (route, error) {
	if err := d.checkOpen(ctx, "publish"); err != nil {
		return route{}, err
	}
	r, err := d.cfg.newRoute(p)
	r.priority = d.brokerPriority(p)
	if err == nil && r.delayUnits > 0 {
		err = d.takeDelayQueue(ctx, &r)
	}
	return r, err
}

// ensureRoute makes what a route leads through exist.
func (d *Driver) ensureRoute(ctx context.Context, r *route) error {
	for suspect := innocent; ; {
		conn, err := d.writableConnection(ctx)
		if err != nil {
			return err
		}
		if err = conn.ensureRoute(ctx, r); err == nil {
			return nil
		}
		if err := d.finalErrorOnce(ctx, conn, err, r.exchange, r, &suspect); err != nil {
			return fmt.Errorf("amqp: publish to %s: %w", r.p.To, err)
		}
	}
}

// send sends a message as soon as there is a connection that takes it. done is called with the
// confirm, unless send returns an error.
func (d *Driver) send(ctx context.Context, o *outgoing, done func(error)) error {
	for suspect := innocent; ; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("amqp: publish: %w", err)
		}
		conn, err := d.writableConnection(ctx)
		if err != nil {
			return err
		}
		if err := conn.refusals.check(o); err != nil {
			return err
		}
		pc, err := conn.publishChannel(ctx, o.slotName()) // before ensureRoute: it may find that an exchange is gone
		if err == nil {
			err = conn.ensureRoute(ctx, o.route)
		}
		if err == nil {
			if err = conn.sendWhenRoom(ctx, pc, o, done); err == nil {
				return nil
			}
			if errors.Is(err, adapters.ErrInvalid) {
				return err
			}
			if conn.alive() && errors.Is(err, errChannelClosed) {
				continue // the channel is gone, and another can be opened
			}
		}
		if err := d.finalErrorOnce(ctx, conn, err, o.exchange, o.route, &suspect); err != nil {
			return fmt.Errorf("amqp: publish to %s: %w", o.p.To, err)
		}
	}
}

// sendWhenRoom sends a message. Large messages go one after the other, each once there is room: all
// that found room at the same time could be too much for a broker that stands still.
func (conn *connection) sendWhenRoom(ctx context.Context, pc *publishChannel, o *outgoing, done func(error)) error {
	if len(o.message.Payload) < netio.LargeMessage {
		return pc.send(ctx, o, done)
	}
	select {
	case conn.largeSlot <- struct{}{}:
		defer func() { <-conn.largeSlot }()
	case <-conn.ctx.Done():
		return context.Cause(conn.ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
	for wait := conn.netConn.WaitRoom(); wait != nil; wait = conn.netConn.WaitRoom() {
		select {
		case <-wait:
		case <-conn.ctx.Done():
			return context.Cause(conn.ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := pc.send(ctx, o, done); err != nil || o.lent == nil {
		return err
	}
	select {
	case <-o.lent:
	case <-ctx.Done():
		conn.netConn.Recall() // the payload is its publisher's once this returns
	}
	return nil
}

// finalError returns nil if what failed with err on conn is to be tried again, else the error to
// return. It is tried again if the connection was lost, unless the connection may have been closed
// because of this very operation, which is about a queue or exchange.
func (d *Driver) finalError(ctx context.Context, conn *connection, err error, about string) error {
	switch {
	case errors.Is(err, errDeclareAgain):
		return nil
	case errors.Is(err, adapters.ErrClosed):
		return adapters.ErrClosed
	case ctx.Err() != nil:
		return unavailable(ctx, nil)
	case conn.alive():
		return classify(err)
	}
	select {
	case <-conn.ctx.Done():
		return conn.connectionError(about)
	case <-ctx.Done():
		return unavailable(ctx, err)
	}
}

// writableConnection returns a connection that takes publishes now.
func (d *Driver) writableConnection(ctx context.Context) (*connection, error) {
	for {
		conn, err := d.publisher.connection(ctx)
		if err != nil {
			return nil, err
		}
		wait, reason := conn.blocked()
		if wait == nil {
			reason = "it does not read"
			if wait = conn.netConn.WaitRoom(); wait == nil {
				return conn, nil
			}
		}
		select {
		case <-wait:
		case <-conn.ctx.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("amqp: %w: %w (blocked by the broker: %s)", adapters.ErrUnavailable, ctx.Err(), reason)
		}
	}
}

// acquireInFlight waits for a place among the publishes in flight.
func (d *Driver) acquireInFlight(ctx context.Context) error {
	d.idle.moves.Add(1)
	select {
	case d.inFlight <- struct{}{}:
		return nil
	default:
	}
	select {
	case d.inFlight <- struct{}{}:
		return nil
	case <-d.ctx.Done():
		return adapters.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("amqp: publish: %w: %w (%d are in flight)", adapters.ErrUnavailable, ctx.Err(), cap(d.inFlight))
	}
}
