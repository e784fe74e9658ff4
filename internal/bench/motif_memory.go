package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

const memoryID = "0193f5a0-1111-7000-8000-000000000000"

var orders = adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}

// credit keeps a publisher no more than window messages ahead of the receiver,
// and costs next to nothing.
type credit struct {
	n, seen int
	tokens  chan struct{}
}

func newCredit(n int) *credit { return &credit{n: n, tokens: make(chan struct{}, 2)} }

func (c *credit) publish(one func() error) error {
	for i := range c.n {
		if i%(window/2) == 0 {
			c.tokens <- struct{}{}
		}
		if err := one(); err != nil {
			return err
		}
	}
	return nil
}

func (c *credit) received() {
	if c.seen++; c.seen%(window/2) == 0 {
		<-c.tokens
	}
}

// memorySeam carries messages through the broker: published, confirmed,
// delivered and acknowledged.
func memorySeam(ctx context.Context, r *Run) error {
	return seam(ctx, r, make([]byte, small), func() error { return nil })
}

// memoryParts does so, and marshals and unmarshals as well: what a typed queue
// cannot do without.
func memoryParts(ctx context.Context, r *Run) error {
	v := newTicket()
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return seam(ctx, r, body, func() error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		var back ticket
		return json.Unmarshal(data, &back)
	})
}

func seam(ctx context.Context, r *Run, body []byte, beside func() error) error {
	broker := memory.New()
	defer broker.Close()
	client := broker.Connect()
	sub, err := client.Subscribe(ctx, adapters.Source{Endpoint: orders, Prefetch: window})
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	credit := newCredit(r.Messages)
	failed := make(chan error, 1)
	go func() {
		failed <- credit.publish(func() error {
			return client.Publish(ctx, adapters.Publication{To: orders}, message.NewMessage(memoryID, body))
		})
	}()
	for range r.Messages {
		d, err := sub.Receive(ctx)
		if err != nil {
			return err
		}
		if err := beside(); err != nil {
			return err
		}
		if err := d.Settle(ctx, adapters.Ack); err != nil {
			return err
		}
		credit.received()
	}
	err = <-failed
	r.Stop()
	return err
}

// memoryTyped sends values over a work queue to a handler.
func memoryTyped(ctx context.Context, r *Run) error {
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[ticket](bus, "orders")
	credit, v := newCredit(r.Messages), newTicket()
	handled := countDown(r.Messages)
	handler := func(context.Context, ticket) error {
		credit.received()
		handled.one()
		return nil
	}
	if _, err := queue.Work(ctx, handler, patterns.Prefetch(window)); err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	err := credit.publish(func() error { return queue.Send(ctx, v) })
	if err == nil {
		err = handled.wait(ctx)
	}
	r.Stop()
	return err
}

// memoryPublish publishes to a topic exchange with 10,000 bindings, one of which
// matches, or to a queue.
func memoryPublish(topic bool) Side {
	return func(ctx context.Context, r *Run) error {
		broker := memory.New()
		defer broker.Close()
		client := broker.Connect()
		p, queue := adapters.Publication{To: orders}, orders.Name
		if topic {
			p, queue = adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "news"}, Key: "r7.s3.t1", Mandatory: true}, "news:g7"
			for g := range 100 {
				s := adapters.Source{Endpoint: p.To, Group: fmt.Sprint("g", g)}
				for k := range 100 {
					s.Keys = append(s.Keys, fmt.Sprintf([]string{"r%d.s%d.*", "*.s%[2]d.x%[1]d", "r%d.#.t%d"}[k%3], g, k))
				}
				if err := client.Declare(ctx, s); err != nil {
					return err
				}
			}
		} else if err := client.Declare(ctx, adapters.Source{Endpoint: orders}); err != nil {
			return err
		}
		m := message.NewMessage(memoryID, make([]byte, small))
		if err := r.Start(); err != nil {
			return err
		}
		for range r.Messages {
			if err := client.Publish(ctx, p, m); err != nil {
				return err
			}
		}
		r.Stop()
		if n, err := broker.Purge(queue); err != nil || n != r.Messages {
			return fmt.Errorf("%d of %d messages were in the queue: %w", n, r.Messages, err)
		}
		return nil
	}
}
