package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// full is a driver with all that a driver may have.
type full interface {
	adapters.Driver
	adapters.AsyncPublisher
	adapters.Getter
	adapters.Unbinder
}

// recorded writes down what goes through a driver.
type recorded struct {
	full
	h      *History
	client string
}

// Record returns a driver that does what d does and writes it into h.
func Record(d full, h *History, client string) full { return &recorded{d, h, client} }

func (r *recorded) Declare(ctx context.Context, s adapters.Source) (err error) {
	back := r.h.Call(ctx, r.client, "Declare")
	defer func() { back(err) }()
	if err = r.full.Declare(ctx, s); err == nil {
		r.bind(s, s.QueueName())
	}
	return err
}

func (r *recorded) bind(s adapters.Source, queue string) {
	r.h.Add(Event{Op: Bind, Client: r.client, To: s.Endpoint, Queue: queue, Keys: s.Keys, Dead: s.Queue.DeadLetter})
}

func (r *recorded) Unbind(ctx context.Context, s adapters.Source) (err error) {
	back := r.h.Call(ctx, r.client, "Unbind")
	defer func() { back(err) }()
	r.h.Add(Event{Op: Unbind, Client: r.client, To: s.Endpoint, Queue: s.QueueName(), Keys: s.Keys})
	return r.full.Unbind(ctx, s)
}

func (r *recorded) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) (err error) {
	back := r.h.Call(ctx, r.client, "Publish")
	defer func() { back(err) }()
	begun := make([]Event, len(msgs))
	for i, m := range msgs {
		begun[i] = r.invoke(p, m)
	}
	err = r.full.Publish(ctx, p, msgs...)
	outcomes := make([]error, len(msgs))
	if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
		for _, f := range failed.Failed {
			outcomes[f.Index] = f.Err
		}
	} else {
		for i := range outcomes {
			outcomes[i] = err
		}
	}
	for i, e := range begun {
		r.outcome(e, outcomes[i])
	}
	return err
}

func (r *recorded) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) (err error) {
	back := r.h.Call(ctx, r.client, "PublishAsync")
	defer func() { back(err) }()
	e := r.invoke(p, m)
	err = r.full.PublishAsync(ctx, p, m, func(err error) {
		r.outcome(e, err)
		done(err)
	})
	if err != nil {
		r.outcome(e, err)
	}
	return err
}

func (r *recorded) invoke(p adapters.Publication, m *message.Message) Event {
	e := Event{
		Op: PublishInvoke, Client: r.client, ID: m.UUID, Attempt: max(p.Attempt, 1), To: p.To, Key: p.Key,
		Publish: r.h.Number(), Droppable: p.TTL > 0 || p.Transient,
	}
	r.h.Add(e)
	return e
}

func (r *recorded) outcome(e Event, err error) {
	e.Op, e.Err = PublishFail, err
	switch {
	case err == nil:
		e.Op = PublishOK
	case errors.Is(err, adapters.ErrUnconfirmed):
		e.Op = PublishUnknown
	}
	r.h.Add(e)
}

func (r *recorded) Subscribe(ctx context.Context, s adapters.Source) (_ adapters.Subscription, err error) {
	back := r.h.Call(ctx, r.client, "Subscribe")
	defer func() { back(err) }()
	sub, err := r.full.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	queue := s.QueueName()
	if s.Private() {
		queue = fmt.Sprintf("%s%s-%d", private, r.client, r.h.Number())
	} else {
		r.bind(s, queue)
	}
	return &recordedSubscription{Subscription: sub, r: r, queue: queue, sessions: map[context.Context]uint64{}}, nil
}

// private begins the names that private queues have in a history.
const private = "private-"

func (r *recorded) Get(ctx context.Context, s adapters.Source) (_ adapters.Delivery, err error) {
	back := r.h.Call(ctx, r.client, "Get")
	defer func() { back(err) }()
	d, err := r.full.Get(ctx, s)
	if err != nil {
		return d, err
	}
	sub := &recordedSubscription{r: r, queue: s.QueueName(), sessions: map[context.Context]uint64{}}
	return sub.delivered(d), nil
}

func (r *recorded) Close(ctx context.Context) (err error) {
	back := r.h.Call(ctx, r.client, "Close")
	defer func() { back(err) }()
	return r.full.Close(ctx)
}

type recordedSubscription struct {
	adapters.Subscription
	r     *recorded
	queue string

	mu       sync.Mutex
	sessions map[context.Context]uint64
}

func (s *recordedSubscription) Receive(ctx context.Context) (_ adapters.Delivery, err error) {
	back := s.r.h.Call(ctx, s.r.client, "Receive")
	defer func() { back(err) }()
	d, err := s.Subscription.Receive(ctx)
	if err != nil {
		return d, err
	}
	return s.delivered(d), nil
}

func (s *recordedSubscription) Stop() (err error) {
	back := s.r.h.Call(context.Background(), s.r.client, "Stop")
	defer func() { back(err) }()
	return s.Subscription.Stop()
}

func (s *recordedSubscription) delivered(d adapters.Delivery) adapters.Delivery {
	e := Event{
		Op: Deliver, Client: s.r.client, ID: d.Message.UUID, Attempt: d.Attempt, Queue: s.queue,
		Delivery: s.r.h.Number(), Session: s.session(d.Message.Context()), Redelivered: d.Redelivered,
	}
	s.r.h.Add(e)
	d.Settler = &recordedSettler{d.Settler, s.r.h, e}
	return d
}

// session returns the number of the session with this ctx, whose end it
// watches.
func (s *recordedSubscription) session(ctx context.Context) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.sessions[ctx]
	if !ok {
		number = s.r.h.Number()
		s.sessions[ctx] = number
		context.AfterFunc(ctx, func() {
			s.r.h.Add(Event{Op: SessionEnd, Client: s.r.client, Queue: s.queue, Session: number, Err: context.Cause(ctx)})
		})
	}
	return number
}

type recordedSettler struct {
	adapters.Settler
	h *History
	e Event // the delivery
}

func (s *recordedSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	err := s.Settler.Settle(ctx, o)
	e := s.e
	e.Op, e.Outcome, e.Err = Settled, o, err
	if err != nil {
		e.Op = Unsettled
	}
	s.h.Add(e)
	return err
}
