package adapters_test

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// A whole adapter, the smallest there is: queues in a map. It says that it
// can do nothing beyond that, and refuses the rest.
type tiny struct {
	mu     sync.Mutex
	queues map[string]chan adapters.Delivery
	closed chan struct{}
	once   sync.Once
}

func (t *tiny) Features() adapters.Features { return adapters.Features{Adapter: "tiny"} }

func (t *tiny) queue(name string) chan adapters.Delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.queues[name] == nil {
		t.queues[name] = make(chan adapters.Delivery, 100)
	}
	return t.queues[name]
}

func (t *tiny) Declare(ctx context.Context, s adapters.Source) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if err := t.Features().Require(s.Needs()); err != nil {
		return err
	}
	t.queue(s.Name)
	return ctx.Err()
}

func (t *tiny) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := t.Features().Require(p.Needs()); err != nil {
		return err
	}
	p.Attempt = max(p.Attempt, 1)
	for i, m := range msgs {
		d := adapters.Delivery{Message: m.Copy(), Key: p.Key, Properties: p.Properties, Settler: forget{}}
		d.Message.Payload = append([]byte(nil), m.Payload...) // the publisher's may change
		select {
		case t.queue(p.To.Name) <- d:
		case <-t.closed:
			return adapters.ErrClosed
		case <-ctx.Done():
			err := &adapters.PublishError{}
			for ; i < len(msgs); i++ {
				err.Failed = append(err.Failed, adapters.FailedMessage{Index: i, UUID: msgs[i].UUID, Err: ctx.Err()})
			}
			return err
		}
	}
	return nil
}

func (t *tiny) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := s.ValidateSubscribe(); err != nil {
		return nil, err
	}
	if err := t.Declare(ctx, s); err != nil {
		return nil, err
	}
	return &consumer{tiny: t, name: s.Name, stopped: make(chan struct{})}, nil
}

func (t *tiny) Close(context.Context) error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

type consumer struct {
	tiny    *tiny
	name    string
	stopped chan struct{}
	once    sync.Once
}

func (c *consumer) Receive(ctx context.Context) (adapters.Delivery, error) {
	select {
	case d := <-c.tiny.queue(c.name):
		return d, nil
	case <-c.stopped:
		return adapters.Delivery{}, adapters.ErrStopped
	case <-c.tiny.closed:
		return adapters.Delivery{}, adapters.ErrClosed
	case <-ctx.Done():
		return adapters.Delivery{}, ctx.Err()
	}
}

func (c *consumer) Stop() error     { c.once.Do(func() { close(c.stopped) }); return nil }
func (c *consumer) Address() string { return c.name }

// forget settles nothing: a message is gone once it is received. That is why
// tiny does not claim CanRequeue.
type forget struct{}

func (forget) Settle(context.Context, adapters.Outcome) error { return nil }

// An adapter is registered under a URL scheme, as database drivers are.
func ExampleRegister() {
	adapters.Register("tiny", func(context.Context, *url.URL) (adapters.Driver, error) {
		return &tiny{queues: map[string]chan adapters.Delivery{}, closed: make(chan struct{})}, nil
	})

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bus, err := patterns.Open(ctx, "tiny:")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bus.Close(context.Background())
	greetings := patterns.NewWorkQueue[string](bus, "greetings", patterns.NoDeadLetter())
	greet := func(_ context.Context, name string) error {
		fmt.Println("hello,", name)
		stop()
		return nil
	}

	_, err = greetings.Work(ctx, greet)
	fmt.Println(err) // the default policy retries, and tiny cannot delay

	sub, err := greetings.Work(ctx, greet, patterns.NoRetry())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := greetings.Send(ctx, "world"); err != nil {
		fmt.Println(err)
	}
	_ = sub.Wait()
	// Output:
	// work on work queue "greetings": motif: adapter tiny does not support delay
	// hello, world
}
