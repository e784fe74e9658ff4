package watermill_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestSecondSubscription of a queue: with a pair that copies, each would get
// every message.
func TestSecondSubscription(t *testing.T) {
	d := newDriver(t, watermill.Config{})
	first := subscribe(t, d, 1)
	_, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", ""))
	if !errors.Is(err, adapters.ErrUnsupported) {
		t.Fatalf("%v, want ErrUnsupported", err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := subscribe(t, d, 1)
	if err := first.Stop(); err != nil { // again, which must not free the queue
		t.Fatal(err)
	}
	if _, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", "")); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
	if second.Address() != "q" {
		t.Errorf("address %q", second.Address())
	}

	competing := newDriver(t, watermill.Config{Competing: true})
	for range 2 {
		subscribe(t, competing, 1)
	}
}

func TestSubscribeFails(t *testing.T) {
	s := newFakeSubscriber()
	s.fail = errFake
	d := newDriver(t, watermill.Config{Subscriber: s})
	for range 2 { // the queue is free again
		if _, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", "")); !errors.Is(err, errFake) {
			t.Errorf("%v, want what the subscriber said", err)
		}
	}
}

// TestSubscribeHonoursItsContext: and a subscription that comes about too
// late is ended, with its messages given back, and the queue is left to who has it by then.
func TestSubscribeHonoursItsContext(t *testing.T) {
	for name, want := range map[string]error{"ctx": context.Canceled, "Close": adapters.ErrClosed} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				late := &latePair{free: make(chan struct{}), m: messages("a")[0]}
				d := newDriver(t, watermill.Config{Subscriber: late})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				got := make(chan error)
				go func() {
					_, err := d.Subscribe(ctx, source(adapters.Queue, "q", ""))
					got <- err
				}()
				synctest.Wait()
				if name == "ctx" {
					cancel()
				} else {
					go closeDriver(t, d)
				}
				if err := <-got; !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				if name == "ctx" {
					go func() {
						got <- func() error { _, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", "")); return err }()
					}()
					synctest.Wait() // the queue has another
				}
				close(late.free)
				<-late.m.Nacked()
				if name == "Close" {
					return
				}
				if err := <-got; err != nil {
					t.Fatal(err)
				}
				if _, err := d.Subscribe(t.Context(), source(adapters.Queue, "q", "")); !errors.Is(err, adapters.ErrUnsupported) {
					t.Errorf("a third subscription: %v", err)
				}
			})
		})
	}
}

// latePair subscribes only when it is free to; the first gets m.
type latePair struct {
	free  chan struct{}
	calls atomic.Int32
	m     *message.Message
	out   chan *message.Message
	once  sync.Once
}

func (p *latePair) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	first := p.calls.Add(1) == 1
	<-p.free
	out := make(chan *message.Message, 1)
	if !first {
		context.AfterFunc(ctx, func() { close(out) })
		return out, nil
	}
	out <- p.m
	p.out = out
	context.AfterFunc(ctx, p.hangUp)
	return out, nil
}

// hangUp ends the first subscription.
func (p *latePair) hangUp() { p.once.Do(func() { close(p.out) }) }

func (*latePair) Close() error { return nil }

// TestSubscriptionOutlivesContext: ctx bounds the call only.
func TestSubscriptionOutlivesContext(t *testing.T) {
	d := newDriver(t, watermill.Config{Subscriber: newFakeSubscriber("a")})
	ctx, cancel := context.WithCancel(t.Context())
	sub, err := d.Subscribe(ctx, source(adapters.Queue, "q", ""))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := receive(t, sub); got.Message.UUID != "a" || got.Message.Context().Err() != nil {
		t.Errorf("received %v, %v", got.Message, got.Message.Context().Err())
	}
}

func TestReceiveHonoursItsContext(t *testing.T) {
	d := newDriver(t, watermill.Config{Subscriber: newFakeSubscriber("a", "b")})
	sub := subscribe(t, d, 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := sub.Receive(ended); !errors.Is(err, context.Canceled) || got.Message != nil {
		t.Errorf("%v, %v, want Canceled and nothing", got.Message, err)
	}
	receive(t, sub)
	ctx, cancel := context.WithCancel(t.Context())
	full := make(chan error)
	go func() {
		_, err := sub.Receive(ctx) // waits for room
		full <- err
	}()
	cancel()
	if err := <-full; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want Canceled", err)
	}
}

// TestOutcomes: what the pair is told.
func TestOutcomes(t *testing.T) {
	s := newFakeSubscriber("a", "b")
	d := newDriver(t, watermill.Config{Subscriber: s})
	sub := subscribe(t, d, 1)
	for i, c := range []struct {
		uuid    string
		outcome adapters.Outcome
		nacks   int32
	}{
		{"a", adapters.Requeue, 1}, {"a", adapters.Ack, 1}, {"b", adapters.Requeue, 2}, {"b", adapters.Reject, 2},
	} {
		got := receive(t, sub)
		if got.Message.UUID != c.uuid || got.Attempt != 1 {
			t.Fatalf("delivery %d is %s, attempt %d, want %s", i, got.Message.UUID, got.Attempt, c.uuid)
		}
		if err := got.Settle(t.Context(), adapters.Outcome(9)); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("an outcome that is none: %v", err)
		}
		for range 2 {
			if err := got.Settle(t.Context(), c.outcome); err != nil {
				t.Error(err)
			}
		}
		if err := got.Message.Context().Err(); err != nil {
			t.Errorf("the receiver's context ended with the settling: %v", err)
		}
	}
	if n := s.nacks.Load(); n != 2 {
		t.Errorf("%d nacks, want 2", n)
	}
}

// TestPrefetchHolds: also where the pair hands over more.
func TestPrefetchHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 10}, nil)
		d := newDriver(t, watermill.Config{Publisher: pair, Subscriber: pair})
		sub := subscribe(t, d, 2)
		if err := d.Publish(t.Context(), toQ, messages("a", "b", "c")...); err != nil {
			t.Fatal(err)
		}
		first, _ := receive(t, sub), receive(t, sub)
		third := make(chan adapters.Delivery)
		go func() { third <- receive(t, sub) }()
		synctest.Wait()
		select {
		case <-third:
			t.Fatal("three in hand")
		default:
		}
		if err := first.Settle(t.Context(), adapters.Ack); err != nil {
			t.Fatal(err)
		}
		<-third
	})
}

// TestNoPhantomOfAPair: a pair that hangs up gives an error, not an empty message.
func TestNoPhantomOfAPair(t *testing.T) {
	s := newFakeSubscriber()
	d := newDriver(t, watermill.Config{Subscriber: s})
	sub := subscribe(t, d, 1)
	s.queue <- nil
	for range 2 {
		if got, err := sub.Receive(t.Context()); !errors.Is(err, adapters.ErrUnavailable) || got.Message != nil {
			t.Errorf("received %v, %v, want ErrUnavailable", got.Message, err)
		}
	}
	subscribe(t, d, 1) // the queue is free again
}

// TestPairLosesItsSession: it says so by ending a message's context.
func TestPairLosesItsSession(t *testing.T) {
	session, lose := context.WithCancel(context.Background())
	m := message.NewMessage("a", nil)
	m.SetContext(session)
	pair := &oneMessage{m: m}
	d := newDriver(t, watermill.Config{Subscriber: pair})
	got := receive(t, subscribe(t, d, 1))
	lose()
	<-got.Message.Context().Done()
	if cause := context.Cause(got.Message.Context()); !errors.Is(cause, adapters.ErrSessionLost) {
		t.Errorf("the cause is %v", cause)
	}
	if err := got.Settle(t.Context(), adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) {
		t.Errorf("late settle: %v", err)
	}
	if err := got.Settle(t.Context(), adapters.Ack); err != nil {
		t.Errorf("settling twice: %v", err)
	}
}

// oneMessage hands over one message.
type oneMessage struct{ m *message.Message }

func (s *oneMessage) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message, 2)
	out <- nil // which is no message
	out <- s.m
	context.AfterFunc(ctx, func() { close(out) })
	return out, nil
}

func (*oneMessage) Close() error { return nil }
