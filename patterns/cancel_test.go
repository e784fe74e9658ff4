package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A reminder is taken back before its time.
func ExampleWorkQueue_Cancel() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	reminders := patterns.NewWorkQueue[string](bus, "reminders")

	err := reminders.Send(ctx, "your table is at eight", patterns.MessageID("table-4"), patterns.Delay(time.Hour))
	fmt.Println(err)
	fmt.Println(reminders.Cancel(ctx, "table-4"))
	fmt.Println(errors.Is(reminders.Cancel(ctx, "table-4"), adapters.ErrNotFound)) // it does not wait any more
	// Output:
	// <nil>
	// <nil>
	// true
}

// What waits for its delay, or for its next attempt, is taken back; what waits in the queue, or is
// in hand, is not.
func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		ctx := t.Context()
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(ctx, order{ID: 1}, patterns.MessageID("later"), patterns.Delay(time.Hour)))
		must(t, q.Send(ctx, order{ID: 2}, patterns.MessageID("other"), patterns.Delay(time.Hour)))
		must(t, q.Send(ctx, order{ID: 3}, patterns.MessageID("fails")))
		wantErr(t, "cancelling what waits in the queue", q.Cancel(ctx, "fails"), adapters.ErrNotFound)
		handled := newJournal[int]()
		must(t, second(q.Work(ctx, func(_ context.Context, o order) error {
			handled.add(o.ID)
			if o.ID == 3 {
				wantErr(t, "cancelling what is in hand", q.Cancel(ctx, "fails"), adapters.ErrNotFound)
				return patterns.RetryAfter(time.Hour, errKitchen)
			}
			return nil
		})))
		synctest.Wait()
		for _, id := range []string{"later", "fails"} {
			must(t, q.Cancel(ctx, id))
			wantErr(t, "cancelling twice", q.Cancel(ctx, id), adapters.ErrNotFound)
		}
		for _, id := range []string{"", string(make([]byte, 256))} {
			wantErr(t, "no id", q.Cancel(ctx, id), adapters.ErrInvalid)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(handled.snapshot()); got != "[3 2]" {
			t.Errorf("handled %s, want [3 2]", got)
		}
		if dead, _ := broker.Queue("orders.dead"); dead.Ready != 0 {
			t.Errorf("%d dead letters", dead.Ready)
		}
	})
}
