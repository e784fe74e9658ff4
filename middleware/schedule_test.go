package middleware_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// A run of a schedule that is sent twice, because its confirm was lost, is handled once.
func TestScheduledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect())
		defer bus.Close(context.Background())
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "reports", Do: memory.DropConfirm, Times: 1})
		reports := patterns.NewWorkQueue[int](bus, "reports")
		if _, err := reports.Schedule(ctx, "hourly", patterns.Every(time.Hour), time.Time.Hour); err != nil {
			t.Fatal(err)
		}
		var handled []int
		handle := func(_ context.Context, hour int) error { handled = append(handled, hour); return nil }
		if _, err := reports.Work(ctx, handle, middleware.Once(middleware.NewMemoryStore(100))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Hour + time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(handled); got != "[1 2 3]" || bus.Stats().Skipped != 1 {
			t.Errorf("handled %s, and skipped %d; want [1 2 3] and 1", got, bus.Stats().Skipped)
		}
	})
}
