package otel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// What the program takes itself has a span of the program's, which links to the message's trace; an
// empty queue has none.
func TestReceive(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[string](bus, "orders")
		for range 3 {
			must(t, orders.Send(t.Context(), "pad thai"))
		}
		must(t, patterns.NewWorkQueue[int](bus, "orders").Send(t.Context(), 5))
		ctx, end := s.begin(t.Context(), "batch job")
		m, err := orders.Get(ctx)
		must(t, err)
		must(t, m.Ack(ctx))
		m, err = orders.TryGet(ctx)
		must(t, err)
		must(t, m.Ack(ctx))
		for m, err := range orders.Waiting(ctx) {
			if err == nil {
				err = m.Reject(ctx, errKitchen)
			} else if errors.Is(err, patterns.ErrCodec) {
				err = m.Ack(ctx)
			}
			must(t, err)
		}
		if _, err = orders.TryGet(ctx); !errors.Is(err, adapters.ErrEmpty) {
			t.Errorf("the queue is not empty: %v", err)
		}
		end()
		_, err = orders.Dead().Get(t.Context())
		must(t, err)
	})
	s.want(t,
		"send orders: producer",
		"send orders: producer",
		"send orders: producer",
		"send orders: producer",
		"batch job: internal",
		"  receive orders: client attempt=1 ->send orders#1",
		"  receive orders: client attempt=1 ->send orders#2",
		"  receive orders: client attempt=1 ->send orders#3",
		"  dead-letter orders.dead: client ->send orders#3",
		"  receive orders: client attempt=1 type=codec error ->send orders#4",
		"receive orders.dead: client attempt=1 ->send orders#3 ->dead-letter orders.dead#1",
	)
	for _, span := range s.recorder.Ended() {
		if span.Name() == "receive orders.dead" {
			set := attribute.NewSet(span.Attributes()...)
			for key, want := range map[attribute.Key]string{
				"messaging.system": "memory", "messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.destination.name": "orders.dead",
			} {
				if got, _ := set.Value(key); got.AsString() != want {
					t.Errorf("%s is %q, want %q", key, got.AsString(), want)
				}
			}
		}
	}
}

// The span lasts from when the message was asked for.
func TestReceiveLastsAsLongAsGet(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[string](bus, "orders")
		time.AfterFunc(time.Minute, func() { must(t, orders.Send(context.Background(), "pad thai")) })
		_, err := orders.Get(t.Context())
		must(t, err)
	})
	for _, span := range s.recorder.Ended() {
		if took := span.EndTime().Sub(span.StartTime()); span.Name() == "receive orders" && took != time.Minute {
			t.Errorf("it lasted %v", took)
		}
	}
}
