package history

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// Subscribe implements [adapters.Driver].
func (r *Driver) Subscribe(ctx context.Context, s adapters.Source) (_ adapters.Subscription, err error) {
	back := r.l.Call(ctx, r.client, "Subscribe")
	defer func() { back(err) }()
	sub, err := r.driver.Subscribe(ctx, s)
	queue := s.QueueName()
	if s.Private() {
		queue = fmt.Sprintf("private-%s-%d", r.client, r.l.Number())
	}
	if s.Kind != adapters.Reply {
		r.bind(s, queue, err)
	}
	if err != nil {
		return nil, err
	}
	e := Event{Op: Subscribed, Client: r.client, To: s.Endpoint, Queue: queue, Consumer: r.l.Number()}
	if r.claims(adapters.CanBalance) {
		e.Prefetch = s.Prefetch
	}
	r.l.Add(e)
	return &subscription{Subscription: sub, r: r, queue: queue, consumer: e.Consumer, sessions: map[context.Context]uint64{}}, nil
}

// ReceiveReplies implements [adapters.ReplyReceiver].
func (r *Driver) ReceiveReplies(ctx context.Context, received func(adapters.Delivery), lost func(error)) (_ string, err error) {
	rr, ok := r.driver.(adapters.ReplyReceiver)
	if !ok {
		return "", fmt.Errorf("%w: %T is no ReplyReceiver", adapters.ErrUnsupported, r.driver)
	}
	back := r.l.Call(ctx, r.client, "ReceiveReplies")
	defer func() { back(err) }()
	sub := &subscription{
		r: r, queue: fmt.Sprintf("private-%s-%d", r.client, r.l.Number()), consumer: r.l.Number(), sessions: map[context.Context]uint64{},
	}
	// Before anything can come. Where it fails nothing comes to this consumer.
	r.l.Add(Event{Op: Subscribed, Client: r.client, To: adapters.Endpoint{Kind: adapters.Reply}, Queue: sub.queue, Consumer: sub.consumer})
	return rr.ReceiveReplies(ctx, func(d adapters.Delivery) {
		d.Settler = accepted{}
		d = sub.delivered(d, r.l.now())
		_ = d.Settle(ctx, adapters.Ack)
		d.Settler = nil
		received(d)
	}, lost)
}

// accepted is behind a message that has nothing to settle.
type accepted struct{}

func (accepted) Settle(context.Context, adapters.Outcome) error { return nil }

// Get implements [adapters.Getter].
func (r *Driver) Get(ctx context.Context, s adapters.Source) (_ adapters.Delivery, err error) {
	g, ok := r.driver.(adapters.Getter)
	if !ok {
		return adapters.Delivery{}, &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: adapters.CanGet}
	}
	back := r.l.Call(ctx, r.client, "Get")
	defer func() { back(err) }()
	begun := r.l.now()
	d, err := g.Get(ctx, s)
	if declared := err == nil || errors.Is(err, adapters.ErrEmpty); declared {
		r.bind(s, s.QueueName(), nil)
	} else {
		r.bind(s, s.QueueName(), err)
	}
	if err != nil {
		return d, err
	}
	sub := &subscription{r: r, queue: s.QueueName(), sessions: map[context.Context]uint64{}}
	return sub.delivered(d, begun), nil
}

// subscription writes down what is received, and what becomes of it.
type subscription struct {
	adapters.Subscription
	r        *Driver
	queue    string
	consumer uint64

	mu       sync.Mutex
	sessions map[context.Context]uint64 // those that are not over
}

func (s *subscription) Receive(ctx context.Context) (_ adapters.Delivery, err error) {
	back := s.r.l.Call(ctx, s.r.client, "Receive")
	defer func() { back(err) }()
	begun := s.r.l.now()
	d, err := s.Subscription.Receive(ctx)
	if err != nil {
		return d, err
	}
	return s.delivered(d, begun), nil
}

// TryReceive implements [adapters.TryReceiver], as far as the subscription that is recorded does.
func (s *subscription) TryReceive(ctx context.Context) (_ adapters.Delivery, err error) {
	tr, ok := s.Subscription.(adapters.TryReceiver)
	if !ok {
		return adapters.Delivery{}, fmt.Errorf("%w: %T is no TryReceiver", adapters.ErrUnsupported, s.Subscription)
	}
	back := s.r.l.Call(ctx, s.r.client, "TryReceive")
	defer func() { back(err) }()
	begun := s.r.l.now()
	d, err := tr.TryReceive(ctx)
	if err != nil {
		return d, err
	}
	return s.delivered(d, begun), nil
}

// StopAndReturn implements [adapters.Returner], as far as the subscription that is recorded does.
func (s *subscription) StopAndReturn() (err error) {
	r, ok := s.Subscription.(adapters.Returner)
	if !ok {
		return fmt.Errorf("%w: %T is no Returner", adapters.ErrUnsupported, s.Subscription)
	}
	back := s.r.l.Call(context.Background(), s.r.client, "StopAndReturn")
	defer func() { back(err) }()
	return r.StopAndReturn()
}

func (s *subscription) Stop() (err error) {
	back := s.r.l.Call(context.Background(), s.r.client, "Stop")
	defer func() { back(err) }()
	return s.Subscription.Stop()
}

func (s *subscription) delivered(d adapters.Delivery, begun int) adapters.Delivery {
	e := Event{
		Op: Deliver, Client: s.r.client, ID: d.Message.UUID, Attempt: d.Attempt, Queue: s.queue, Consumer: s.consumer,
		Delivery: s.r.l.Number(), Session: s.session(d.Message.Context()), Redelivered: d.Redelivered,
		Unmarked: !s.r.claims(adapters.CanRequeue), Begun: begun,
	}
	s.r.l.Add(e)
	d.Settler = &settler{d.Settler, s.r.l, e}
	return d
}

// session returns the number of the session with this ctx, whose end it
// watches.
func (s *subscription) session(ctx context.Context) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.sessions[ctx]
	if !ok {
		number = s.r.l.Number()
		s.sessions[ctx] = number
		context.AfterFunc(ctx, func() {
			s.mu.Lock()
			delete(s.sessions, ctx)
			s.mu.Unlock()
			s.r.l.Add(Event{Op: SessionEnd, Client: s.r.client, Queue: s.queue, Session: number, Err: context.Cause(ctx)})
		})
	}
	return number
}

type settler struct {
	adapters.Settler
	l *Log
	e Event // the delivery
}

func (s *settler) Settle(ctx context.Context, o adapters.Outcome) error {
	return s.record(o, func() error { return s.Settler.Settle(ctx, o) })
}

// AckInRun implements [adapters.RunSettler].
func (s *settler) AckInRun(ctx context.Context) error {
	run, ok := s.Settler.(adapters.RunSettler)
	if !ok {
		return s.Settle(ctx, adapters.Ack)
	}
	return s.record(adapters.Ack, func() error { return run.AckInRun(ctx) })
}

func (s *settler) record(o adapters.Outcome, settle func() error) error {
	e := s.e
	e.Begun = s.l.now()
	e.Op, e.Outcome, e.Err = Settled, o, settle()
	if e.Err != nil {
		e.Op = Unsettled
	}
	s.l.Add(e)
	return e.Err
}
