package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestSendItems(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.SendItems(t.Context(), []patterns.Item[int]{
			{Value: 1, Options: []patterns.PublishOption{patterns.MessageID("a"), patterns.Header("table", "7")}},
			{Value: 2, Options: []patterns.PublishOption{patterns.Delay(time.Minute)}},
			{Value: 3, Options: []patterns.PublishOption{patterns.Type("order")}},
			{Value: 4},
		}))
		got := newJournal[string]()
		_, err := q.Work(t.Context(), func(ctx context.Context, v int) error {
			d, _ := patterns.DeliveryFrom(ctx)
			got.add(fmt.Sprint(v, d.ID == "a", d.Headers["table"], d.Type))
			return nil
		})
		must(t, err)
		synctest.Wait()
		if want := []string{"1 true7", "3 falseorder", "4 false"}; !slices.Equal(got.snapshot(), want) {
			t.Errorf("at once %q, want %q", got.snapshot(), want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := got.snapshot(); len(all) != 4 || all[3] != "2 false" {
			t.Errorf("after a minute %q", all)
		}
		must(t, q.SendItems(t.Context(), nil))
	})
}

func TestSendItemsSaysWhichFailed(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q", patterns.MaxLength(2))
	err := q.SendItems(t.Context(), []patterns.Item[int]{
		{Value: 1}, {Value: 2}, {Value: 3, Options: []patterns.PublishOption{patterns.MessageID("c")}}, {Value: 4},
	})
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 2 || failed.Failed[0].UUID != "c" || failed.Failed[1].Index != 3 {
		t.Fatalf("got %v, want that items 2 and 3 failed", err)
	}
	wantErr(t, "what is too much", err, adapters.ErrNacked)
	if n := depth(t, bus, "q"); n != 2 {
		t.Errorf("%d messages are in the queue, want 2", n)
	}
}

// What is wrong with one is found before any is sent.
func TestSendItemsChecksAllFirst(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[any](bus, "q")
	must(t, q.Declare(t.Context()))
	for what, bad := range map[string]patterns.Item[any]{
		"a value that does not encode": {Value: func() {}},
		"an option":                    {Options: []patterns.PublishOption{patterns.Delay(-1)}},
		"WaitForRoom":                  {Options: []patterns.PublishOption{patterns.WaitForRoom()}},
		"a key":                        {Key: "kitchen"},
	} {
		if err := q.SendItems(t.Context(), []patterns.Item[any]{{Value: 1}, bad}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	topic := patterns.NewTopic[any](bus, "t")
	wantErr(t, "a Topic without a key", topic.PublishItems(t.Context(), []patterns.Item[any]{{Key: "a"}, {}}), adapters.ErrInvalid)
	if n := depth(t, bus, "q"); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	wantErr(t, "an ended ctx", q.SendItems(ended, []patterns.Item[any]{{Value: 1}}), context.Canceled)
	wantErr(t, "no bus", (&patterns.WorkQueue[any]{}).SendItems(t.Context(), nil), adapters.ErrInvalid)
}

// The queue was deleted since it was declared.
func TestSendItemsDeclaresAgain(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, q.Send(t.Context(), 0))
	must(t, bus.Driver().(adapters.Inspector).Delete(t.Context(), "q", 0))
	must(t, q.SendItems(t.Context(), []patterns.Item[int]{{Value: 1}, {Value: 2}}))
	if n := depth(t, bus, "q"); n != 2 {
		t.Errorf("%d messages are in the queue, want 2", n)
	}
}

// unroutableDriver says of each asynchronous publish that it went nowhere, and takes no other
// before its ctx ends.
type unroutableDriver struct{ hangingDriver }

func (d *unroutableDriver) PublishAsync(_ context.Context, _ adapters.Publication, _ *message.Message, done func(error)) error {
	done(adapters.ErrUnroutable)
	return nil
}

// Whatever it is that it waits for, it ends with its caller's ctx or, if that has no deadline, when
// the PublishTimeout is over for all items together.
func TestSendItemsEndsWithItsContext(t *testing.T) {
	for name, driver := range map[string]func(*memory.Client) adapters.Driver{
		"takes nothing":      func(c *memory.Client) adapters.Driver { return &hangingDriver{c} },
		"confirms nothing":   func(c *memory.Client) adapters.Driver { return &forgetfulDriver{c} },
		"has lost the queue": func(c *memory.Client) adapters.Driver { return &unroutableDriver{hangingDriver{c}} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				bus := patterns.New(driver(broker.Connect()))
				q := patterns.NewWorkQueue[int](bus, "q")
				canceled, cancel := context.WithCancel(t.Context())
				time.AfterFunc(31*time.Second, cancel)
				for _, c := range []struct {
					ctx  context.Context
					want error
					took time.Duration
				}{
					{t.Context(), context.DeadlineExceeded, 30 * time.Second},
					{canceled, context.Canceled, time.Second},
				} {
					begun := time.Now()
					err := q.SendItems(c.ctx, []patterns.Item[int]{{Value: 1}, {Value: 2}})
					wantErr(t, "a broker that "+name, err, c.want)
					if failed, ok := errors.AsType[*adapters.PublishError](err); !ok || len(failed.Failed) != 2 {
						t.Errorf("got %v, want that both failed", err)
					}
					if took := time.Since(begun); took != c.took {
						t.Errorf("it took %v, want %v", took, c.took)
					}
				}
				must(t, bus.Close(t.Context()))
			})
		})
	}
}

func TestPublishItemsWithKeys(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		logs := patterns.NewTopic[string](bus, "logs")
		got := newJournal[[]string]()
		_, err := logs.SubscribeBatch(t.Context(), []string{"kitchen.#"}, func(_ context.Context, batch []string) error {
			got.add(batch)
			return nil
		}, patterns.Group("cooks"), patterns.BatchSize(2))
		must(t, err)
		must(t, logs.PublishItems(t.Context(), []patterns.Item[string]{
			{Key: "kitchen.oven", Value: "hot"}, {Key: "hall.door", Value: "open"}, {Key: "kitchen.fridge", Value: "cold"},
		}))
		synctest.Wait()
		if want := [][]string{{"hot", "cold"}}; fmt.Sprint(got.snapshot()) != fmt.Sprint(want) {
			t.Errorf("batches %v, want %v", got.snapshot(), want)
		}
	})
}
