package main

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// memoryBacklog publishes to a queue that nobody consumes, and then takes it
// all.
func memoryBacklog(ctx context.Context, _ *Run, size int) (map[string]float64, error) {
	broker := memory.New()
	defer broker.Close()
	client := broker.Connect()
	if err := client.Declare(ctx, adapters.Source{Endpoint: orders}); err != nil {
		return nil, err
	}
	body := make([]byte, small)
	return backlog(func() error {
		for range size {
			if err := client.Publish(ctx, adapters.Publication{To: orders}, message.NewMessage(memoryID, body)); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		sub, err := client.Subscribe(ctx, adapters.Source{Endpoint: orders, Prefetch: window})
		if err != nil {
			return err
		}
		for range size {
			d, err := sub.Receive(ctx)
			if err != nil {
				return err
			}
			if err := d.Settle(ctx, adapters.Ack); err != nil {
				return err
			}
		}
		return sub.Stop()
	})
}

// channelBacklog has a channel with room for all. As the broker does, it keeps
// a copy of each payload.
func channelBacklog(_ context.Context, _ *Run, size int) (map[string]float64, error) {
	var ch chan *message.Message
	body := make([]byte, small)
	return backlog(func() error {
		ch = make(chan *message.Message, size)
		for range size {
			ch <- message.NewMessage(memoryID, slices.Clone(body))
		}
		return nil
	}, func() error {
		for range size {
			(<-ch).Ack()
		}
		return nil
	})
}

func backlog(publish, take func() error) (map[string]float64, error) {
	before := heapAndStacks()
	start := time.Now()
	if err := publish(); err != nil {
		return nil, err
	}
	published := time.Since(start)
	heap := heapAndStacks() - before
	start = time.Now()
	if err := take(); err != nil {
		return nil, err
	}
	return map[string]float64{"heap": heap, "published after": published.Seconds(), "taken after": time.Since(start).Seconds()}, nil
}

// memorySubscriptions has private subscriptions of one worker on one bus.
func memorySubscriptions(ctx context.Context, _ *Run, size int) (map[string]float64, error) {
	bus := patterns.New(memory.New().Connect())
	all := patterns.NewPubSub[int](bus, "ticks")
	heap, goroutines := heapAndStacks(), runtime.NumGoroutine()
	for range size {
		if _, err := all.Subscribe(ctx, func(context.Context, int) error { return nil }); err != nil {
			return nil, err
		}
	}
	figures := map[string]float64{"goroutines": float64(runtime.NumGoroutine() - goroutines), "heap and stacks": heapAndStacks() - heap}
	return figures, bus.Close(ctx)
}

func channelSubscriptions(_ context.Context, _ *Run, size int) (map[string]float64, error) {
	heap, goroutines := heapAndStacks(), runtime.NumGoroutine()
	all := make([]chan *message.Message, size)
	for i := range all {
		ch := make(chan *message.Message, 1)
		all[i] = ch
		go func() {
			for m := range ch {
				m.Ack()
			}
		}()
	}
	figures := map[string]float64{"goroutines": float64(runtime.NumGoroutine() - goroutines), "heap and stacks": heapAndStacks() - heap}
	for _, ch := range all {
		close(ch)
	}
	return figures, nil
}
