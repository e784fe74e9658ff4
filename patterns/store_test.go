package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// shelf is a store in memory.
type shelf struct {
	mu   sync.Mutex
	msgs []patterns.Outgoing
	err  error
}

func (s *shelf) Store(_ context.Context, msgs []patterns.Outgoing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.msgs = append(s.msgs, msgs...)
	}
	return s.err
}

// What is sent with the ctx of a store is kept there, and published later.
func ExampleStoreIn() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[string](bus, "orders")

	var kept shelf
	if err := orders.Send(patterns.StoreIn(ctx, &kept), "pad thai"); err != nil {
		fmt.Println(err)
	}
	_, err := orders.TryGet(ctx)
	fmt.Println("in the queue:", err == nil)

	for _, o := range kept.msgs {
		done := make(chan error, 1)
		if err := bus.PublishOutgoing(ctx, o, func(err error) { done <- err }); err != nil {
			fmt.Println(err)
		}
		fmt.Println("published:", <-done == nil)
	}
	m, err := orders.TryGet(ctx)
	fmt.Println("in the queue:", m.Value, err == nil)
	// Output:
	// in the queue: false
	// published: true
	// in the queue: pad thai true
}

func TestStoreIn(t *testing.T) {
	var causes []patterns.PublishCause
	bus := patterns.New(memory.New().Connect(), patterns.OnPublish(func(_ context.Context, p *patterns.Publishing) func(error) {
		causes = append(causes, p.Cause)
		p.SetHeader(0, "trace", string(p.Cause))
		return func(err error) { causes = append(causes, patterns.PublishCause(fmt.Sprint(err))) }
	}))
	defer bus.Close(context.Background())
	var kept shelf
	ctx := patterns.StoreIn(t.Context(), &kept)
	q := patterns.NewWorkQueue[int](bus, "q", patterns.MaxLength(3))
	must(t, q.Send(ctx, 1, patterns.Priority(0), patterns.Delay(time.Minute)))
	must(t, patterns.NewTopic[int](bus, "t").PublishBatch(ctx, "a.b", []int{2, 3}, patterns.TTL(time.Hour)))
	if len(kept.msgs) != 3 {
		t.Fatal(kept.msgs)
	}
	first, last := kept.msgs[0], kept.msgs[2]
	if first.Queue.Queue.MaxLength != 3 || first.Publication.Delay != time.Minute || first.Message.Metadata["trace"] != "publish" || first.Publication.ContentType != "application/json" {
		t.Errorf("%+v", first)
	}
	if last.Queue.Name != "" || last.Publication.Key != "a.b" || last.Publication.TTL != time.Hour || string(last.Message.Payload) != "3" || last.Message.UUID == "" {
		t.Errorf("%+v", last)
	}
	if got := fmt.Sprint(causes); got != "[publish <nil> publish <nil>]" {
		t.Error(got)
	}
	kept.err = errors.New("disk full")
	if err := q.Send(ctx, 4); !errors.Is(err, kept.err) {
		t.Error(err)
	}

	for what, err := range map[string]error{
		"SendAsync": second(q.SendAsync(ctx, 1)), "WaitForRoom": q.Send(ctx, 1, patterns.WaitForRoom()),
		"Call":           second(patterns.NewRPC[int, int](bus, "f").Call(ctx, 1)),
		"a long id":      q.Send(ctx, 1, patterns.MessageID(string(make([]byte, 256)))),
		"a bad queue":    patterns.NewWorkQueue[int](bus, "amq.q").Send(ctx, 1),
		"nothing at all": bus.PublishOutgoing(t.Context(), patterns.Outgoing{}, func(error) {}),
	} {
		if !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}

	must(t, bus.Err())
	if err := patterns.New(nil).Err(); !errors.Is(err, adapters.ErrInvalid) {
		t.Error(err)
	}
	causes = nil
	done := make(chan error, 1)
	must(t, bus.PublishOutgoing(t.Context(), last, func(err error) { done <- err }))
	must(t, <-done)
	must(t, bus.Close(context.Background())) // which waits for hooks
	if got := fmt.Sprint(causes); got != "[relay <nil>]" {
		t.Error(got)
	}
}
