package patternstest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/patternstest"
)

// start is the service that the examples test: it ships orders and publishes what it shipped.
func start(ctx context.Context, bus *patterns.Bus) error {
	orders, shipped := patterns.NewWorkQueue[order](bus, "orders"), patterns.NewPubSub[order](bus, "shipped")
	_, err := orders.Work(ctx, func(ctx context.Context, o order) error {
		if d, _ := patterns.DeliveryFrom(ctx); d.Attempt == 1 {
			return patterns.RetryAfter(time.Hour, errors.New("no rider"))
		}
		return shipped.Publish(ctx, o)
	})
	return err
}

// A whole service, through a retry after an hour. In a program this is a test.
func ExampleWaitIdle() {
	test := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			bus, rec := patternstest.NewBus(t, nil)
			if err := start(t.Context(), bus); err != nil {
				t.Fatal(err)
			}
			orders := patterns.NewWorkQueue[order](bus, "orders")
			if err := orders.Send(t.Context(), order{"ramen", 1450}); err != nil {
				t.Fatal(err)
			}
			if err := patternstest.WaitIdle(t.Context(), bus); err != nil {
				t.Fatal(err)
			}
			patternstest.Expect(t, rec, "shipped", order{"ramen", 1450})
		})
	}
	_ = test
}

// The same service on RabbitMQ, where a retry takes its time, and nothing else does.
func ExampleWaitIdle_rabbitMQ() {
	test := func(t *testing.T) {
		driver, err := adapters.Open(t.Context(), amqptest.Shared(t).URL)
		if err != nil {
			t.Fatal(err)
		}
		bus, rec := patternstest.NewBus(t, driver)
		if err := start(t.Context(), bus); err != nil {
			t.Fatal(err)
		}
		orders := patterns.NewWorkQueue[order](bus, "orders")
		if err := orders.Send(t.Context(), order{"ramen", 1450}); err != nil {
			t.Fatal(err)
		}
		if err := patternstest.WaitIdle(t.Context(), bus); err != nil {
			t.Fatal(err)
		}
		patternstest.Expect(t, rec, "shipped", order{"ramen", 1450})
	}
	_ = test
}

// A handler with its options, and what became of its message.
func ExampleRun() {
	test := func(t *testing.T) {
		bus, _ := patternstest.NewBus(t, nil)
		ship := func(context.Context, order) error { return errors.New("no such street") }
		s := patternstest.Run(t, bus, patternstest.Message[order]{Value: order{"ramen", 1450}}, ship, patterns.NoRetry())
		if s.Result != patterns.ResultDeadLettered {
			t.Errorf("it is %s", s.Result)
		}
	}
	_ = test
}

// A handler alone.
func ExampleNewBus_withoutBus() {
	ship := func(ctx context.Context, o order) error {
		d, _ := patterns.DeliveryFrom(ctx)
		fmt.Printf("shipping %s, attempt %d of message %s\n", o.Dish, d.Attempt, d.ID)
		return nil
	}
	ctx := patterns.ContextWithDelivery(context.Background(), patterns.Delivery{ID: "7", Attempt: 2})
	if err := ship(ctx, order{"ramen", 1450}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// shipping ramen, attempt 2 of message 7
}

// The test of ExampleWaitIdle.
func TestService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, rec := patternstest.NewBus(t, nil)
		must(t, start(t.Context(), bus))
		must(t, patterns.NewWorkQueue[order](bus, "orders").Send(t.Context(), order{"ramen", 1450}))
		must(t, patternstest.WaitIdle(t.Context(), bus))
		patternstest.Expect(t, rec, "shipped", order{"ramen", 1450})
	})
}
