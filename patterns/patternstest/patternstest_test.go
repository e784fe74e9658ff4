package patternstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/internal/leaktest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/patternstest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type order struct {
	Dish  string `json:"dish"`
	Cents int    `json:"cents"`
}

var errKitchen = errors.New("the kitchen is on fire")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// failing is a test that may fail.
type failing struct {
	testing.TB
	text []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.text = append(f.text, fmt.Sprintf(format, args...))
}

func TestExpect(t *testing.T) {
	bus, rec := patternstest.NewBus(t, nil)
	orders := patterns.NewWorkQueue[order](bus, "orders")
	patternstest.Expect[order](t, rec, "orders")
	must(t, orders.SendBatch(t.Context(), []order{{"ramen", 1450}, {"pho", 1200}}))
	must(t, patterns.NewWorkQueue[string](bus, "notes").Send(t.Context(), "no onions", patterns.MessageID("7")))
	patternstest.Expect(t, rec, "orders", order{"ramen", 1450}, order{"pho", 1200})
	patternstest.Expect(t, rec, "notes", "no onions")

	for name, c := range map[string]struct {
		want []order
		says string
	}{
		"another": {[]order{{"ramen", 1450}, {"pho", 1300}}, `published to "orders" (- is missing, + is too much):
  {
    "dish": "ramen",
    "cents": 1450
  }
  {
    "dish": "pho",
-   "cents": 1300
+   "cents": 1200
  }
beside that:
  publish of message "7" to queue "notes"
`},
		"fewer": {[]order{{"ramen", 1450}}, "+   \"dish\": \"pho\",\n"},
		"none":  {nil, "+   \"dish\": \"ramen\",\n"},
		"order": {[]order{{"pho", 1200}, {"ramen", 1450}}, "- "},
	} {
		f := &failing{TB: t}
		patternstest.Expect(f, rec, "orders", c.want...)
		if len(f.text) != 1 || !strings.Contains(f.text[0], c.says) {
			t.Errorf("%s: it says %q, want %q", name, f.text, c.says)
		}
	}
	rec.Reset()
	patternstest.Expect[order](t, rec, "orders")
}

// What was not stored is not published, and what the library publishes is not the program's.
func TestPublishedAndFilters(t *testing.T) {
	broker := memory.New()
	bus, rec := patternstest.NewBus(t, broker.Connect())
	ctx := t.Context()
	remove := broker.Inject(memory.Fault{On: memory.OnPublish, Name: "refused", Do: memory.Refuse})
	defer remove()
	if err := patterns.NewWorkQueue[order](bus, "refused").Send(ctx, order{}); err == nil {
		t.Error("it was not refused")
	}
	patternstest.Expect[order](t, rec, "refused")
	if all := rec.Messages(patternstest.To("refused")); len(all) != 1 || !errors.Is(all[0].Err, adapters.ErrUnavailable) || !all[0].Done {
		t.Errorf("what was refused is %+v", all)
	}

	logs := patterns.NewTopic[string](bus, "logs")
	must(t, logs.Publish(ctx, "eu.error", "hot", patterns.Header("host", "a")))
	must(t, logs.Publish(ctx, "us.error", "cold", patterns.Header("host", "b")))
	if got := patternstest.Published[string](t, rec, "logs", patternstest.Key("eu.*")); len(got) != 1 || got[0] != "hot" {
		t.Errorf("by key: %q", got)
	}
	if got := patternstest.Published[string](t, rec, "logs", patternstest.Header("host", "b")); len(got) != 1 || got[0] != "cold" {
		t.Errorf("by header: %q", got)
	}

	orders := patterns.NewWorkQueue[order](bus, "orders")
	_, err := orders.Work(ctx, func(context.Context, order) error { return patterns.Reject(errKitchen) })
	must(t, err)
	must(t, orders.Send(ctx, order{"ramen", 1}))
	must(t, patternstest.WaitIdle(ctx, bus))
	patternstest.Expect(t, rec, "orders", order{"ramen", 1})
	patternstest.Expect[order](t, rec, "orders.dead")
	letters := rec.Messages(patternstest.Cause(patterns.CauseDeadLetter))
	if len(letters) != 1 || letters[0].Headers[patterns.HeaderReason] != errKitchen.Error() {
		t.Errorf("dead letters: %+v", letters)
	}

	prices := patterns.NewRPC[order, int](bus, "price")
	_, err = prices.Serve(ctx, func(_ context.Context, o order) (int, error) { return o.Cents, nil })
	must(t, err)
	_, err = prices.Call(ctx, order{"pho", 3})
	must(t, err)
	patternstest.Expect(t, rec, "price", order{"pho", 3})
}

func TestWaitIdleInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, rec := patternstest.NewBus(t, nil)
		ctx := t.Context()
		began := time.Now()
		receipts := patterns.NewWorkQueue[string](bus, "receipts")
		orders := patterns.NewWorkQueue[order](bus, "orders")
		tries := 0
		_, err := orders.Work(ctx, func(ctx context.Context, o order) error {
			if tries++; tries < 3 {
				return patterns.RetryAfter(time.Hour, errKitchen)
			}
			time.Sleep(time.Minute)
			return receipts.Send(ctx, o.Dish)
		})
		must(t, err)
		must(t, patternstest.WaitIdle(ctx, bus)) // nothing was sent
		must(t, orders.Send(ctx, order{"ramen", 1}, patterns.Delay(time.Hour)))
		must(t, patternstest.WaitIdle(ctx, bus))
		if took := time.Since(began); took != 3*time.Hour+time.Minute {
			t.Errorf("it took %v", took)
		}
		patternstest.Expect(t, rec, "receipts", "ramen") // which nobody consumes: it waits there
	})
}

// What a broker no longer has in its books may still be handled.
func TestWaitIdleWhenAcknowledgedOnReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := patternstest.NewBus(t, nil)
		orders := patterns.NewWorkQueue[order](bus, "orders")
		began, done := time.Now(), false
		_, err := orders.Work(t.Context(), func(context.Context, order) error { time.Sleep(time.Second); done = true; return nil }, patterns.AckOnReceive())
		must(t, err)
		must(t, orders.Send(t.Context(), order{}))
		must(t, patternstest.WaitIdle(t.Context(), bus))
		if !done || time.Since(began) > 2*time.Second {
			t.Errorf("done: %v, after %v", done, time.Since(began))
		}
	})
}

func TestWaitIdleSaysWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := patternstest.NewBus(t, nil)
		orders := patterns.NewWorkQueue[order](bus, "orders")
		release := make(chan struct{})
		_, err := orders.Work(t.Context(), func(context.Context, order) error { <-release; return nil })
		must(t, err)
		must(t, orders.SendBatch(t.Context(), make([]order, 3)))
		must(t, orders.Send(t.Context(), order{}, patterns.Delay(time.Hour)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = patternstest.WaitIdle(ctx, bus)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `1 delayed, 2 waiting and 1 in hand of queue "orders"`) {
			t.Errorf("it ended with %v", err)
		}
		close(release)
		must(t, patternstest.WaitIdle(t.Context(), bus))
	})
}

func TestWaitIdleIsRefusedByName(t *testing.T) {
	bus, _ := patternstest.NewBus(t, struct{ adapters.Driver }{memory.New().Connect()})
	err := patternstest.WaitIdle(t.Context(), bus)
	if !errors.Is(err, adapters.ErrUnsupported) || !strings.Contains(err.Error(), "memory cannot tell") {
		t.Errorf("it ended with %v", err)
	}
}

// However a message goes on, from one queue to the next, it is never between two counts.
func TestWaitIdleMissesNothing(t *testing.T) {
	broker := memory.New()
	bus, _ := patternstest.NewBus(t, broker.Connect())
	ctx := t.Context()
	const hops, each, rounds = 5, 20, 20
	var ended atomic.Int64
	var queues []*patterns.WorkQueue[int]
	for i := range hops {
		queues = append(queues, patterns.NewWorkQueue[int](bus, fmt.Sprintf("hop%d", hops-i))) // looked at in the other order
	}
	for i, q := range queues {
		_, err := q.Work(ctx, func(ctx context.Context, n int) error {
			switch {
			case i+1 == hops:
				ended.Add(1)
				return nil
			case n%3 == 0 && i == 2:
				return patterns.Reject(errKitchen)
			}
			return queues[i+1].Send(ctx, n)
		}, patterns.Workers(4))
		must(t, err)
	}
	// What is rejected at the third hop goes on from the dead letters.
	_, err := queues[2].Dead().Work(ctx, func(ctx context.Context, n int) error { return queues[3].Send(ctx, n) })
	must(t, err)
	for round := range rounds {
		for n := range each {
			must(t, queues[0].Send(ctx, n))
		}
		must(t, patternstest.WaitIdle(ctx, bus))
		if got, want := ended.Load(), int64((round+1)*each); got != want {
			t.Fatalf("in round %d it is idle after %d of %d", round, got, want)
		}
	}
}

func TestRun(t *testing.T) {
	bus, _ := patternstest.NewBus(t, nil)
	panics := func(context.Context, order) error { panic("no pan") }
	for name, c := range map[string]struct {
		handler patterns.Handler[order]
		opts    []patterns.WorkOption
		want    patterns.Result
		err     error
		retryIn time.Duration
	}{
		"done":       {handler: func(context.Context, order) error { return nil }, want: patterns.ResultAcknowledged},
		"rejected":   {handler: func(context.Context, order) error { return patterns.Reject(errKitchen) }, want: patterns.ResultDeadLettered, err: errKitchen},
		"retried":    {handler: func(context.Context, order) error { return patterns.RetryAfter(time.Hour, errKitchen) }, want: patterns.ResultRetried, err: errKitchen, retryIn: time.Hour},
		"last try":   {handler: func(context.Context, order) error { return errKitchen }, opts: []patterns.WorkOption{patterns.NoRetry()}, want: patterns.ResultDeadLettered, err: errKitchen},
		"skipped":    {handler: func(context.Context, order) error { return patterns.Skip(errKitchen) }, want: patterns.ResultSkipped, err: errKitchen},
		"panic":      {handler: panics, opts: []patterns.WorkOption{patterns.NoRetry()}, want: patterns.ResultDeadLettered},
		"timeout":    {handler: func(ctx context.Context, _ order) error { <-ctx.Done(); return ctx.Err() }, opts: []patterns.WorkOption{patterns.HandlerTimeout(time.Millisecond), patterns.NoRetry()}, want: patterns.ResultDeadLettered, err: context.DeadlineExceeded},
		"classified": {handler: func(context.Context, order) error { return errKitchen }, opts: []patterns.WorkOption{patterns.Classify(patterns.Skip)}, want: patterns.ResultSkipped, err: errKitchen},
	} {
		t.Run(name, func(t *testing.T) {
			var got patterns.Delivery
			s := patternstest.Run(t, bus, patternstest.Message[order]{
				Value: order{"ramen", 1}, Options: []patterns.PublishOption{patterns.MessageID("7"), patterns.Header("a", "b")},
			}, func(ctx context.Context, o order) error {
				got, _ = patterns.DeliveryFrom(ctx)
				return c.handler(ctx, o)
			}, c.opts...)
			if s.Result != c.want || c.err != nil && !errors.Is(s.Err, c.err) || s.RetryIn != c.retryIn {
				t.Errorf("it is %s, %v, again in %v", s.Result, s.Err, s.RetryIn)
			}
			if got.ID != "7" || got.Headers["a"] != "b" || s.ID != "7" {
				t.Errorf("it was delivered as %+v", got)
			}
		})
	}
	ops := bus.Driver().(*memory.Client)
	for q, err := range ops.Queues(t.Context()) {
		t.Errorf("left behind: %v, %v", q.Name, err)
	}
}

func TestRunWhatDoesNotDecode(t *testing.T) {
	bus, _ := patternstest.NewBus(t, nil)
	called := false
	s := patternstest.Run(t, bus, patternstest.Message[any]{Value: "no order"}, func(context.Context, any) error { called = true; return patterns.Reject(patterns.ErrCodec) })
	if !called || s.Result != patterns.ResultDeadLettered {
		t.Errorf("it is %s", s.Result)
	}
}
