package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

const window = 256 // messages under way, and in a consumer's hand

// counter signals when so many messages were handled.
type counter struct {
	left atomic.Int64
	done chan struct{}
}

func countDown(n int) *counter {
	c := &counter{done: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *counter) one() {
	if c.left.Add(-1) == 0 {
		close(c.done)
	}
}

func (c *counter) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func motifTyped(ctx context.Context, r *Run) error { return motifTypedWith()(ctx, r) }

// motifTypedWith is motifTyped on a bus with options, which options makes in each run.
func motifTypedWith(options ...func() patterns.BusOption) Side {
	return func(ctx context.Context, r *Run) error {
		var opts []patterns.BusOption
		for _, o := range options {
			opts = append(opts, o())
		}
		return passTyped(ctx, r, plain, opts...)
	}
}

// way is how tickets are sent and handled, by what surrounds both.
type way struct {
	send   func(context.Context, *patterns.WorkQueue[ticket], ticket) (*patterns.Receipt, error)
	handle func(context.Context)
}

var plain = way{
	send: func(ctx context.Context, q *patterns.WorkQueue[ticket], v ticket) (*patterns.Receipt, error) {
		return q.SendAsync(ctx, v)
	},
	handle: func(context.Context) {},
}

func passTyped(ctx context.Context, r *Run, w way, opts ...patterns.BusOption) error {
	driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.JSON{}, opts...)
	if err != nil {
		return err
	}
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[ticket](bus, r.Name)
	handled := countDown(r.Messages + 1)
	sub, err := queue.Work(ctx, func(ctx context.Context, _ ticket) error { w.handle(ctx); handled.one(); return nil }, patterns.Prefetch(window))
	if err != nil {
		return err
	}
	v := newTicket()
	if err := queue.Send(ctx, v); err != nil { // opens the channel
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	err = pipelined(ctx, r.Messages, window, func(int) (*patterns.Receipt, error) { return w.send(ctx, queue, v) })
	if err == nil {
		err = handled.wait(ctx)
	}
	if err == nil {
		err = sub.Stop(ctx)
	}
	r.Stop()
	if err != nil {
		return err
	}
	return deleteQueues(ctx, driver, r.Name, r.Name+".dead")
}

// The exchange and its queues are there for all runs.
func fanoutName(groups int) string { return fmt.Sprintf("bench-fanout-%d", groups) }

func prepareFanout(groups int) func(context.Context, string) (func() error, error) {
	return func(ctx context.Context, url string) (func() error, error) {
		driver, bus, err := openBus(ctx, url, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return nil, err
		}
		all := patterns.NewPubSub[[]byte](bus, fanoutName(groups))
		var queues []string
		for g := range groups {
			group := fmt.Sprint("g", g)
			if err := all.Declare(ctx, patterns.Group(group), patterns.NoDeadLetter()); err != nil {
				return nil, err
			}
			queues = append(queues, fanoutName(groups)+":"+group)
		}
		return func() error {
			defer bus.Close(ctx)
			return deleteQueues(ctx, driver, queues...)
		}, nil
	}
}

func motifFanout(groups int) Side {
	return func(ctx context.Context, r *Run) error {
		_, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		published := max(1, r.Messages/groups)
		r.Messages = published * groups
		all := patterns.NewPubSub[[]byte](bus, fanoutName(groups))
		handled := countDown(r.Messages + groups)
		for g := range groups {
			_, err := all.Subscribe(ctx, func(context.Context, []byte) error { handled.one(); return nil },
				patterns.Group(fmt.Sprint("g", g)), patterns.NoDeadLetter(), patterns.Prefetch(window))
			if err != nil {
				return err
			}
		}
		body := make([]byte, small)
		if err := all.Publish(ctx, body); err != nil { // opens the channel
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		err = pipelined(ctx, published, window, func(int) (*patterns.Receipt, error) { return all.PublishAsync(ctx, body) })
		if err == nil {
			err = handled.wait(ctx)
		}
		r.Stop()
		return err
	}
}

const topicName = "bench-topic"

// topicKey is what one binding matches.
const topicKey = "eu.berlin.weather"

// prepareTopic binds patterns to a few queues, all of which but the first are
// about other places.
func prepareTopic(bindings int) func(context.Context, string) (func() error, error) {
	return func(ctx context.Context, url string) (func() error, error) {
		driver, bus, err := openBus(ctx, url, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return nil, err
		}
		news := patterns.NewTopic[[]byte](bus, topicName)
		groups := min(bindings, 10)
		var queues []string
		for g := range groups {
			var keys []string
			for i := g; i < bindings; i += groups {
				keys = append(keys, fmt.Sprintf([]string{"eu.place%d.*", "*.place%d.weather", "eu.#.place%d"}[i%3], i))
			}
			if g == 0 {
				keys[0] = "eu.berlin.*"
			}
			group := fmt.Sprint("g", g)
			if err := news.Declare(ctx, keys, patterns.Group(group), patterns.NoDeadLetter()); err != nil {
				return nil, err
			}
			queues = append(queues, topicName+":"+group)
		}
		return func() error {
			defer bus.Close(ctx)
			return deleteQueues(ctx, driver, queues...)
		}, nil
	}
}

func motifTopic(ctx context.Context, r *Run) error {
	driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
	if err != nil {
		return err
	}
	defer bus.Close(ctx)
	news := patterns.NewTopic[[]byte](bus, topicName)
	body := make([]byte, small)
	if err := news.Publish(ctx, topicKey, body); err != nil { // opens the channel
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	err = pipelined(ctx, r.Messages, window, func(int) (*patterns.Receipt, error) { return news.PublishAsync(ctx, topicKey, body) })
	r.Stop()
	if err != nil {
		return err
	}
	return driver.Do(ctx, purgeTopic(r.Messages+1))
}

// purgeTopic takes away what a run published, and sees that it all arrived.
func purgeTopic(want int) func(*amqp091.Channel) error {
	return func(ch *amqp091.Channel) error {
		n, err := ch.QueuePurge(topicName+":g0", false)
		if err == nil && n != want {
			err = fmt.Errorf("%d of %d messages were in the queue", n, want)
		}
		return err
	}
}
