package patterns_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A hook that publishes with the ctx it was given is not called for that again.
func TestOnPublishHookThatPublishes(t *testing.T) {
	var calls atomic.Int64
	var bus *patterns.Bus
	hook := func(ctx context.Context, p *patterns.Publishing) func(error) {
		calls.Add(1)
		audit := patterns.NewWorkQueue[string](bus, "audit")
		must(t, audit.Send(ctx, "before "+p.ID))
		return func(error) { must(t, audit.Send(ctx, "after "+p.ID)) }
	}
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus = patterns.New(broker.Connect(), patterns.OnPublish(hook))
		start := time.Now()
		must(t, patterns.NewWorkQueue[int](bus, "q").Send(t.Context(), 1))
		if n, d := calls.Load(), time.Since(start); n != 1 || d > 0 {
			t.Errorf("called %d times in %v", n, d)
		}
		info, err := broker.Connect().Inspect(t.Context(), "audit")
		must(t, err)
		if info.Ready != 2 {
			t.Errorf("%d messages of the hook", info.Ready)
		}
		must(t, bus.Close(context.Background()))
	})
}

// A publish whose ctx ends waits no longer for its hooks.
func TestOnPublishHonoursItsContext(t *testing.T) {
	for _, end := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			hook := func(context.Context, *patterns.Publishing) func(error) {
				if !end {
					<-release
				}
				return func(error) { <-release }
			}
			broker := memory.New()
			defer broker.Close()
			bus := patterns.New(broker.Connect(), patterns.OnPublish(hook))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			start := time.Now()
			_ = patterns.NewWorkQueue[int](bus, "q").Send(ctx, 1)
			if d := time.Since(start); d > 10*time.Millisecond {
				t.Errorf("at the end %v: took %v", end, d)
			}
			close(release)
			must(t, bus.Close(context.Background()))
		})
	}
}
