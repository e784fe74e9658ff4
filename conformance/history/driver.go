package history

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Driver writes down what goes through another driver. It is an AsyncPublisher, ReplyReceiver,
// Getter, Unbinder, Canceller, Inspector and HealthReporter whatever that one is: what it cannot do
// is ErrUnsupported, but for PublishAsync, which then does what Publish does, and Health, which
// then has no connections.
type Driver struct {
	driver adapters.Driver
	l      *Log
	client string
}

var (
	_ adapters.Driver         = (*Driver)(nil)
	_ adapters.AsyncPublisher = (*Driver)(nil)
	_ adapters.ReplyReceiver  = (*Driver)(nil)
	_ adapters.Getter         = (*Driver)(nil)
	_ adapters.Unbinder       = (*Driver)(nil)
	_ adapters.Canceller      = (*Driver)(nil)
	_ adapters.Inspector      = (*Driver)(nil)
	_ adapters.HealthReporter = (*Driver)(nil)
)

// Record returns a driver that does what d does and writes it into l, under
// the name of a client. What the client publishes is expected to arrive in order.
func Record(d adapters.Driver, l *Log, client string) *Driver { return &Driver{d, l, client} }

// Unwrap returns the driver that is recorded.
func (r *Driver) Unwrap() adapters.Driver { return r.driver }

// Features are those of the driver that is recorded.
func (r *Driver) Features() adapters.Features { return r.driver.Features() }

func (r *Driver) claims(a adapters.Ability) bool { return r.driver.Features().Ability.Has(a) }

// Health is that of the driver that is recorded.
func (r *Driver) Health() adapters.Health {
	if h, ok := r.driver.(adapters.HealthReporter); ok {
		return h.Health()
	}
	return adapters.Health{}
}

// Close implements [adapters.Driver].
func (r *Driver) Close(ctx context.Context) (err error) {
	back := r.l.Call(ctx, r.client, "Close")
	defer func() { back(err) }()
	return r.driver.Close(ctx)
}

// Declare implements [adapters.Driver].
func (r *Driver) Declare(ctx context.Context, s adapters.Source) (err error) {
	back := r.l.Call(ctx, r.client, "Declare")
	defer func() { back(err) }()
	err = r.driver.Declare(ctx, s)
	if !s.Private() {
		r.bind(s, s.QueueName(), err)
	}
	return err
}

// bind writes down that a queue is there and bound, or with an error that it
// may be.
func (r *Driver) bind(s adapters.Source, queue string, err error) {
	for _, refused := range []error{
		adapters.ErrInvalid, adapters.ErrUnsupported, adapters.ErrMismatch, adapters.ErrNotFound, adapters.ErrClosed,
	} {
		if errors.Is(err, refused) {
			return
		}
	}
	e := Event{Op: Bind, Client: r.client, To: s.Endpoint, Queue: queue, Keys: s.Keys, Spec: s.Queue, Err: err}
	switch {
	case s.Passive: // nothing is bound
		e.To, e.Keys, e.Spec, e.Passive = adapters.Endpoint{Kind: adapters.Queue, Name: queue}, nil, adapters.QueueSpec{}, true
	case s.Private():
		e.Spec.AutoDelete = true
	}
	r.l.Add(e)
}

// Unbind implements [adapters.Unbinder].
func (r *Driver) Unbind(ctx context.Context, s adapters.Source) (err error) {
	u, ok := r.driver.(adapters.Unbinder)
	if !ok {
		return &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: adapters.CanUnbind}
	}
	back := r.l.Call(ctx, r.client, "Unbind")
	defer func() { back(err) }()
	if s.Kind == adapters.Fanout || len(s.Keys) > 0 {
		r.l.Add(Event{Op: Unbind, Client: r.client, To: s.Endpoint, Queue: s.QueueName(), Keys: s.Keys})
	}
	return u.Unbind(ctx, s)
}

// Cancel implements [adapters.Canceller].
func (r *Driver) Cancel(ctx context.Context, to adapters.Endpoint, id string) (err error) {
	c, ok := r.driver.(adapters.Canceller)
	if !ok {
		return &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: adapters.CanCancel}
	}
	back := r.l.Call(ctx, r.client, "Cancel")
	defer func() { back(err) }()
	err = c.Cancel(ctx, to, id)
	if !errors.Is(err, adapters.ErrNotFound) {
		r.l.Add(Event{Op: Cancelled, Client: r.client, To: to, ID: id, Err: err})
	}
	return err
}

// Publish implements [adapters.Driver].
func (r *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	return r.publish(ctx, "Publish", p, msgs...)
}

func (r *Driver) publish(ctx context.Context, call string, p adapters.Publication, msgs ...*message.Message) (err error) {
	back := r.l.Call(ctx, r.client, call)
	defer func() { back(err) }()
	batch := uint64(0)
	if len(msgs) > 1 {
		batch = r.l.Number()
	}
	begun := make([]Event, len(msgs))
	for i, m := range msgs {
		begun[i] = r.invoke(p, m, batch)
	}
	err = r.driver.Publish(ctx, p, msgs...)
	for i, each := range outcomes(err, len(msgs)) {
		r.outcome(begun[i], each)
	}
	return err
}

// PublishAsync implements [adapters.AsyncPublisher].
func (r *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) (err error) {
	a, ok := r.driver.(adapters.AsyncPublisher)
	if !ok {
		err := r.publish(ctx, "PublishAsync", p, m)
		if _, tried := errors.AsType[*adapters.PublishError](err); err != nil && !tried {
			return err // nothing was sent
		}
		done(outcomes(err, 1)[0])
		return nil
	}
	back := r.l.Call(ctx, r.client, "PublishAsync")
	defer func() { back(err) }()
	e := r.invoke(p, m, 0)
	err = a.PublishAsync(ctx, p, m, func(err error) {
		r.outcome(e, err)
		done(err)
	})
	if err != nil {
		r.outcome(e, err)
		return err
	}
	taken := e // of which the callback may be reading
	taken.Op = PublishTaken
	r.l.Add(taken)
	return nil
}

func (r *Driver) invoke(p adapters.Publication, m *message.Message, batch uint64) Event {
	e := Event{
		Op: PublishInvoke, Client: r.client, ID: m.UUID, Attempt: max(p.Attempt, 1), To: p.To, Key: p.Key,
		Publish: r.l.Number(), Batch: batch,
		Droppable: p.TTL > 0 || p.Transient || !r.claims(adapters.CanConfirm),
		Unordered: p.Delay > 0 || p.Priority > 0, Delayed: p.Delay > 0,
	}
	r.l.Add(e)
	return e
}

func (r *Driver) outcome(e Event, err error) {
	e.Op, e.Err = PublishFail, err
	switch {
	case err == nil:
		e.Op = PublishOK
	case errors.Is(err, adapters.ErrUnconfirmed),
		errors.Is(err, adapters.ErrNacked) && e.To.Kind.IsExchange(): // one queue refused it, others may have it
		e.Op = PublishUnknown
	}
	r.l.Add(e)
}

// outcomes are those of n messages whose Publish returned err.
func outcomes(err error, n int) []error {
	each := make([]error, n)
	if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
		for _, f := range failed.Failed {
			each[f.Index] = f.Err
		}
		return each
	}
	for i := range each {
		each[i] = err
	}
	return each
}
