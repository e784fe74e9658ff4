package amqp

import (
	"context"
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/patternstest"
)

// Package patternstest does on RabbitMQ what it does in the process. For WaitIdle see idle_test.go.
func TestPatternstest(t *testing.T) {
	cfg, err := ParseURL(amqptest.Shared(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	bus, rec := patternstest.NewBus(t, driver)
	receipts := patterns.NewWorkQueue[string](bus, "receipts")
	fire := errors.New("the kitchen is on fire")
	for name, c := range map[string]struct {
		err  error
		want patterns.Result
	}{
		"done":     {nil, patterns.ResultAcknowledged},
		"rejected": {patterns.Reject(fire), patterns.ResultDeadLettered},
		"retried":  {fire, patterns.ResultRetried},
	} {
		s := patternstest.Run(t, bus, patternstest.Message[string]{Value: name}, func(ctx context.Context, dish string) error {
			if err := receipts.Send(ctx, dish); err != nil {
				t.Error(err)
			}
			return c.err
		})
		if s.Result != c.want || c.err != nil && !errors.Is(s.Err, fire) {
			t.Errorf("%s: it is %s, %v", name, s.Result, s.Err)
		}
		patternstest.Expect(t, rec, "receipts", name)
		rec.Reset()
	}
}
