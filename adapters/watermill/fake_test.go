package watermill_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

var errFake = errors.New("fake failure")

func messages(uuids ...string) []*message.Message {
	var msgs []*message.Message
	for _, uuid := range uuids {
		msgs = append(msgs, message.NewMessage(uuid, []byte("payload of "+uuid)))
	}
	return msgs
}

// fakePublisher publishes by calling a function, or not at all.
type fakePublisher struct {
	publish func(topic string, m *message.Message) error
	sent    atomic.Int32
	closed  atomic.Int32
}

func (p *fakePublisher) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		p.sent.Add(1)
		if p.publish == nil {
			continue
		}
		if err := p.publish(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *fakePublisher) Close() error {
	p.closed.Add(1)
	return nil
}

// fakeSubscriber hands over one message at a time, and again until it is
// acked, as most do. What is put into it goes to whichever subscription comes first.
type fakeSubscriber struct {
	fail    error
	queue   chan *message.Message
	nacks   atomic.Int32
	topics  atomic.Int32 // initialized
	closed  atomic.Int32
	running sync.WaitGroup
}

func newFakeSubscriber(uuids ...string) *fakeSubscriber {
	s := &fakeSubscriber{queue: make(chan *message.Message, 10)}
	for _, m := range messages(uuids...) {
		s.queue <- m
	}
	return s
}

func (s *fakeSubscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		for {
			select {
			case m := <-s.queue:
				if m == nil { // hang up
					return
				}
				for !s.hand(ctx, out, m) {
					if ctx.Err() != nil {
						s.queue <- m
						return
					}
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}

// hand reports whether m was handed over and acked.
func (s *fakeSubscriber) hand(ctx context.Context, out chan<- *message.Message, m *message.Message) bool {
	m = m.Copy()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(ctx)
	select {
	case out <- m:
	case <-ctx.Done():
		return false
	}
	select {
	case <-m.Acked():
		return true
	case <-m.Nacked():
		s.nacks.Add(1)
	case <-ctx.Done():
	}
	return false
}

func (s *fakeSubscriber) SubscribeInitialize(string) error {
	s.topics.Add(1)
	return s.fail
}

func (s *fakeSubscriber) Close() error {
	s.closed.Add(1)
	return nil
}

var (
	_ message.Publisher            = (*fakePublisher)(nil)
	_ message.Subscriber           = (*fakeSubscriber)(nil)
	_ message.SubscribeInitializer = (*fakeSubscriber)(nil)
)
