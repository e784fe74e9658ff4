package otel_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Each message of a batch has a span of its own, in the trace of whoever sent it.
func TestHandledInABatch(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		orders := patterns.NewWorkQueue[string](bus, "orders")
		_, err := orders.WorkBatch(t.Context(), func(ctx context.Context, _ []string) error {
			_, end := s.begin(ctx, "insert")
			defer end()
			return patterns.BatchError{1: patterns.Reject(errKitchen)}
		}, patterns.BatchWait(time.Second))
		must(t, err)
		for _, dish := range []string{"ramen", "pho"} {
			ctx, end := s.begin(t.Context(), "order "+dish)
			must(t, orders.Send(ctx, dish))
			end()
			time.Sleep(time.Second / 2)
		}
		time.Sleep(time.Second)
		synctest.Wait()
	})
	s.want(t,
		"order ramen: internal",
		"  send orders: producer",
		"    process orders: consumer attempt=1 ->send orders#1",
		"      settle orders: client result=acknowledged",
		"order pho: internal",
		"  send orders: producer",
		"    process orders: consumer attempt=1 type=rejected error ->send orders#2",
		"      dead-letter orders.dead: client ->send orders#2",
		"      settle orders: client result=dead-lettered",
		"insert: internal",
	)
}
