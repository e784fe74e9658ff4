package patterns_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A test of a handler's retry: an hour of backoff takes no time in a bubble.
func TestShipIsTriedAgainAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		bus := patterns.New(memory.New().Connect())
		defer bus.Close(ctx)

		var attempts []time.Duration
		start := time.Now()
		ship := func(context.Context, Order) error {
			attempts = append(attempts, time.Since(start))
			if len(attempts) == 1 {
				return patterns.RetryAfter(time.Hour, errors.New("no rider"))
			}
			return nil
		}
		orders := patterns.NewWorkQueue[Order](bus, "orders")
		if _, err := orders.Work(ctx, ship); err != nil {
			t.Fatal(err)
		}
		if err := orders.Send(ctx, Order{Dish: "pad thai"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // virtual
		synctest.Wait()
		if len(attempts) != 2 || attempts[1] != time.Hour {
			t.Errorf("tried at %v", attempts)
		}
	})
}
