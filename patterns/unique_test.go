package patterns_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Two clicks ask for one invoice.
func ExampleUniqueFor() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	invoices := patterns.NewWorkQueue[string](bus, "invoices")
	for range 2 {
		err := invoices.Send(ctx, "order 7", patterns.MessageID("invoice-7"), patterns.UniqueFor(time.Hour))
		fmt.Println(err)
	}
	for invoice, err := range invoices.Waiting(ctx) {
		fmt.Println(invoice.Value, err)
	}
	// Output:
	// <nil>
	// <nil>
	// order 7 <nil>
}

// In each way of sending, what is unique is there once, until its time is over; and what is
// handled, fails and is tried again meanwhile is not new.
func TestUniqueFor(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		ctx := t.Context()
		q := patterns.NewWorkQueue[order](bus, "orders")
		opts := []patterns.PublishOption{patterns.MessageID("7"), patterns.UniqueFor(time.Hour)}
		sendAll := func() {
			must(t, q.Send(ctx, order{ID: 7}, opts...))
			receipt, err := q.SendAsync(ctx, order{ID: 7}, opts...)
			must(t, err)
			must(t, receipt.Wait(ctx))
			must(t, q.SendItems(ctx, []patterns.Item[order]{{Value: order{ID: 7}, Options: opts}, {Value: order{ID: 7}, Options: opts}}))
			must(t, q.Send(ctx, order{ID: 7}, append(opts, patterns.Delay(time.Minute))...))
		}
		attempts := newJournal[int]()
		must(t, second(q.Work(ctx, func(ctx context.Context, o order) error {
			d, _ := patterns.DeliveryFrom(ctx)
			if attempts.add(d.Attempt); d.Attempt == 1 {
				return errKitchen
			}
			return nil
		})))
		sendAll()
		time.Sleep(30 * time.Minute)
		sendAll()
		if got := fmt.Sprint(attempts.snapshot()); got != "[1 2]" {
			t.Errorf("attempts %s, want [1 2]", got)
		}
		time.Sleep(31 * time.Minute)
		sendAll()
		time.Sleep(time.Minute)
		if got := fmt.Sprint(attempts.snapshot()); got != "[1 2 1 2]" {
			t.Errorf("attempts %s, want [1 2 1 2]", got)
		}

		// A confirm that was lost: sent again, it is not twice.
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "others", Do: memory.DropConfirm, Times: 1})
		others := patterns.NewWorkQueue[order](bus, "others")
		wantErr(t, "the confirm is lost", others.Send(ctx, order{}, opts...), adapters.ErrUnconfirmed)
		must(t, others.Send(ctx, order{}, opts...))
		if info, _ := broker.Queue("others"); info.Ready != 1 {
			t.Errorf("%d messages, want 1", info.Ready)
		}
	})
}

func TestUniqueForRefuses(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	for what, opts := range map[string][]patterns.PublishOption{
		"no id":    {patterns.UniqueFor(time.Hour)},
		"no time":  {patterns.MessageID("7"), patterns.UniqueFor(0)},
		"too long": {patterns.MessageID("7"), patterns.UniqueFor(adapters.MaxTTL + 1)},
		"twice":    {patterns.MessageID("7"), patterns.UniqueFor(1), patterns.UniqueFor(1)},
	} {
		wantErr(t, what, q.Send(bounded(t), order{}, opts...), adapters.ErrInvalid)
	}
	wantErr(t, "a batch", q.SendBatch(bounded(t), []order{{}, {}}, patterns.MessageID("7"), patterns.UniqueFor(1)), adapters.ErrInvalid)
}
