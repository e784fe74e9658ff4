package history

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Driver writes down what goes through another driver. It can publish
// asynchronously, get and unbind whatever that driver can; see its methods.
type Driver struct {
	driver adapters.Driver
	l      *Log
	client string
}

var (
	_ adapters.Driver         = (*Driver)(nil)
	_ adapters.AsyncPublisher = (*Driver)(nil)
	_ adapters.Getter         = (*Driver)(nil)
	_ adapters.Unbinder       = (*Driver)(nil)
)

// Record returns a driver that does what d does and writes it into l, under
// the name of a client.
func Record(d adapters.Driver, l *Log, client string) *Driver { return &Driver{d, l, client} }

// Unwrap returns the driver that is recorded.
func (r *Driver) Unwrap() adapters.Driver { return r.driver }

// Features are those of the driver that is recorded.
func (r *Driver) Features() adapters.Features { return r.driver.Features() }

func (r *Driver) Declare(ctx context.Context, s adapters.Source) (err error) {
	back := r.l.Call(ctx, r.client, "Declare")
	defer func() { back(err) }()
	if err = r.driver.Declare(ctx, s); err == nil {
		r.bind(s, s.QueueName())
	}
	return err
}

func (r *Driver) bind(s adapters.Source, queue string) {
	r.l.remember(s)
	r.l.Add(Event{Op: Bind, Client: r.client, To: s.Endpoint, Queue: queue, Keys: s.Keys, Dead: s.Queue.DeadLetter})
}

func (r *Driver) Unbind(ctx context.Context, s adapters.Source) (err error) {
	u, ok := r.driver.(adapters.Unbinder)
	if !ok {
		return &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: adapters.CanUnbind}
	}
	back := r.l.Call(ctx, r.client, "Unbind")
	defer func() { back(err) }()
	r.l.Add(Event{Op: Unbind, Client: r.client, To: s.Endpoint, Queue: s.QueueName(), Keys: s.Keys})
	return u.Unbind(ctx, s)
}

func (r *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) (err error) {
	back := r.l.Call(ctx, r.client, "Publish")
	defer func() { back(err) }()
	begun := make([]Event, len(msgs))
	for i, m := range msgs {
		begun[i] = r.invoke(p, m)
	}
	err = r.driver.Publish(ctx, p, msgs...)
	for i, outcome := range outcomes(err, len(msgs)) {
		r.outcome(begun[i], outcome)
	}
	return err
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

func (r *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) (err error) {
	a, ok := r.driver.(adapters.AsyncPublisher)
	if !ok {
		done(outcomes(r.Publish(ctx, p, m), 1)[0])
		return nil
	}
	back := r.l.Call(ctx, r.client, "PublishAsync")
	defer func() { back(err) }()
	e := r.invoke(p, m)
	err = a.PublishAsync(ctx, p, m, func(err error) {
		r.outcome(e, err)
		done(err)
	})
	if err != nil {
		r.outcome(e, err)
	}
	return err
}

func (r *Driver) invoke(p adapters.Publication, m *message.Message) Event {
	e := Event{
		Op: PublishInvoke, Client: r.client, ID: m.UUID, Attempt: max(p.Attempt, 1), To: p.To, Key: p.Key,
		Publish: r.l.Number(), Droppable: p.TTL > 0 || p.Transient,
	}
	r.l.Add(e)
	return e
}

func (r *Driver) outcome(e Event, err error) {
	e.Op, e.Err = PublishFail, err
	switch {
	case err == nil:
		e.Op = PublishOK
	case errors.Is(err, adapters.ErrUnconfirmed):
		e.Op = PublishUnknown
	}
	r.l.Add(e)
}

func (r *Driver) Subscribe(ctx context.Context, s adapters.Source) (_ adapters.Subscription, err error) {
	back := r.l.Call(ctx, r.client, "Subscribe")
	defer func() { back(err) }()
	sub, err := r.driver.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	queue := s.QueueName()
	if s.Private() {
		queue = fmt.Sprintf("%s%s-%d", private, r.client, r.l.Number())
	} else {
		r.bind(s, queue)
	}
	return &recordedSubscription{Subscription: sub, r: r, queue: queue, sessions: map[context.Context]uint64{}}, nil
}

// private begins the names that private queues have in a history.
const private = "private-"

func (r *Driver) Get(ctx context.Context, s adapters.Source) (_ adapters.Delivery, err error) {
	g, ok := r.driver.(adapters.Getter)
	if !ok {
		return adapters.Delivery{}, &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: adapters.CanGet}
	}
	back := r.l.Call(ctx, r.client, "Get")
	defer func() { back(err) }()
	d, err := g.Get(ctx, s)
	if err != nil {
		return d, err
	}
	sub := &recordedSubscription{r: r, queue: s.QueueName(), sessions: map[context.Context]uint64{}}
	return sub.delivered(d), nil
}

func (r *Driver) Close(ctx context.Context) (err error) {
	back := r.l.Call(ctx, r.client, "Close")
	defer func() { back(err) }()
	return r.driver.Close(ctx)
}

type recordedSubscription struct {
	adapters.Subscription
	r     *Driver
	queue string

	mu       sync.Mutex
	sessions map[context.Context]uint64
}

func (s *recordedSubscription) Receive(ctx context.Context) (_ adapters.Delivery, err error) {
	back := s.r.l.Call(ctx, s.r.client, "Receive")
	defer func() { back(err) }()
	d, err := s.Subscription.Receive(ctx)
	if err != nil {
		return d, err
	}
	return s.delivered(d), nil
}

func (s *recordedSubscription) Stop() (err error) {
	back := s.r.l.Call(context.Background(), s.r.client, "Stop")
	defer func() { back(err) }()
	return s.Subscription.Stop()
}

func (s *recordedSubscription) delivered(d adapters.Delivery) adapters.Delivery {
	e := Event{
		Op: Deliver, Client: s.r.client, ID: d.Message.UUID, Attempt: d.Attempt, Queue: s.queue,
		Delivery: s.r.l.Number(), Session: s.session(d.Message.Context()), Redelivered: d.Redelivered,
	}
	s.r.l.Add(e)
	d.Settler = &recordedSettler{d.Settler, s.r.l, e}
	return d
}

// session returns the number of the session with this ctx, whose end it
// watches.
func (s *recordedSubscription) session(ctx context.Context) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.sessions[ctx]
	if !ok {
		number = s.r.l.Number()
		s.sessions[ctx] = number
		context.AfterFunc(ctx, func() {
			s.r.l.Add(Event{Op: SessionEnd, Client: s.r.client, Queue: s.queue, Session: number, Err: context.Cause(ctx)})
		})
	}
	return number
}

type recordedSettler struct {
	adapters.Settler
	l *Log
	e Event // the delivery
}

func (s *recordedSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	err := s.Settler.Settle(ctx, o)
	e := s.e
	e.Op, e.Outcome, e.Err = Settled, o, err
	if err != nil {
		e.Op = Unsettled
	}
	s.l.Add(e)
	return err
}
