package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// batches collects the batches that a handler was given, and when.
type batches struct {
	journal[[]int]
	results func(batch []int) error
}

func newBatches() *batches { return &batches{journal: *newJournal[[]int]()} }

func (b *batches) handle(_ context.Context, batch []int) error {
	b.add(slices.Clone(batch))
	if b.results != nil {
		return b.results(batch)
	}
	return nil
}

func (b *batches) want(t *testing.T, want ...[]int) {
	t.Helper()
	synctest.Wait()
	if got := b.snapshot(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("batches %v, want %v", got, want)
	}
}

func numbers(from, to int) []int {
	var all []int
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// depth is how many messages are in a queue, in hand or not.
func depth(t *testing.T, bus *patterns.Bus, queue string) int {
	t.Helper()
	info, err := bus.Driver().(adapters.Inspector).Inspect(t.Context(), queue)
	must(t, err)
	return info.Ready + info.Unacked
}

func TestBatchIsHandledWhenItIsFullOrHasWaited(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(4), patterns.BatchWait(time.Second))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 10)))
		got.want(t, numbers(1, 4), numbers(5, 8))
		time.Sleep(time.Second - 1)
		got.want(t, numbers(1, 4), numbers(5, 8))
		time.Sleep(time.Nanosecond)
		got.want(t, numbers(1, 4), numbers(5, 8), numbers(9, 10))
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// Each message has an outcome of its own.
func TestBatchError(t *testing.T) {
	rows := map[string]struct {
		err   error
		again []int // batches of one or more that come after, all values of them
		dead  []int
	}{
		"nil":                   {nil, nil, nil},
		"empty":                 {patterns.BatchError{}, nil, nil},
		"named nil":             {patterns.BatchError{1: nil}, nil, nil},
		"one":                   {patterns.BatchError{1: errKitchen}, []int{2}, nil},
		"wrapped":               {fmt.Errorf("storing: %w", patterns.BatchError{1: errKitchen}), []int{2}, nil},
		"all":                   {errKitchen, []int{1, 2, 3, 4}, nil},
		"rejected":              {patterns.BatchError{0: patterns.Reject(errKitchen), 3: errKitchen}, []int{4}, []int{1}},
		"skipped":               {patterns.BatchError{0: patterns.Skip(errKitchen)}, nil, nil},
		"requeued":              {patterns.BatchError{2: patterns.Requeue(errKitchen)}, []int{3}, nil},
		"all rejected":          {patterns.Reject(errKitchen), nil, []int{1, 2, 3, 4}},
		"rejected for an error": {patterns.Reject(patterns.BatchError{1: errKitchen}), nil, []int{1, 2, 3, 4}},
		"joined with another":   {errors.Join(patterns.BatchError{1: errKitchen}, errKitchen), []int{1, 2, 3, 4}, nil},
		"an index too high":     {patterns.BatchError{4: errKitchen}, []int{1, 2, 3, 4}, nil},
		"an index below 0":      {patterns.BatchError{-1: errKitchen}, []int{1, 2, 3, 4}, nil},
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				got := newBatches()
				got.results = func([]int) error {
					if len(got.snapshot()) == 1 {
						return r.err
					}
					return nil
				}
				_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(4))
				must(t, err)
				must(t, q.SendBatch(t.Context(), numbers(1, 4)))
				time.Sleep(time.Minute)
				synctest.Wait()
				var again []int
				for _, b := range got.snapshot()[1:] {
					again = append(again, b...)
				}
				slices.Sort(again)
				if !slices.Equal(again, r.again) {
					t.Errorf("%v came again, want %v", again, r.again)
				}
				var dead []int
				for letter, err := range q.Dead().Waiting(t.Context()) {
					must(t, err)
					dead = append(dead, letter.Value)
				}
				slices.Sort(dead)
				if !slices.Equal(dead, r.dead) {
					t.Errorf("dead letters %v, want %v", dead, r.dead)
				}
				if n := depth(t, bus, "q"); n != 0 {
					t.Errorf("%d messages are left", n)
				}
			})
		})
	}
}

func TestBatchErrorSays(t *testing.T) {
	err := patterns.BatchError{7: errKitchen, 2: patterns.Reject(errors.New("no dish")), 3: nil}
	if got, want := err.Error(), "value 2 of the batch: no dish; value 7 of the batch: the kitchen is on fire"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	wantErr(t, "the error", err, errKitchen)
	wantErr(t, "the error", err, patterns.ErrRejected)
	if got, want := (patterns.BatchError{3: nil}).Error(), "no value of the batch failed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What fails as a whole counts as an attempt of each message.
func TestBatchFailsAsAWhole(t *testing.T) {
	rows := map[string]func(){
		"panic":  func() { panic("the roof fell in") },
		"Goexit": runtime.Goexit,
	}
	for name, fail := range rows {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				got := newBatches()
				got.results = func([]int) error { fail(); return nil }
				_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(3), patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
				must(t, err)
				must(t, q.SendBatch(t.Context(), numbers(1, 3)))
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := depth(t, bus, "q.dead"); n != 3 || len(got.snapshot()) < 2 {
					t.Errorf("%d dead letters of 3 after the batches %v", n, got.snapshot())
				}
				got.results = nil
				must(t, q.Send(t.Context(), 4)) // the worker lives
				time.Sleep(time.Second)
				synctest.Wait()
				if all := got.snapshot(); !slices.Equal(all[len(all)-1], []int{4}) {
					t.Errorf("batches %v, and then none of 4", all)
				}
			})
		})
	}
}

func TestBatchIsWithoutWhatDoesNotDecode(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		got := newBatches()
		q := patterns.NewWorkQueue[int](bus, "q")
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(3))
		must(t, err)
		must(t, patterns.NewWorkQueue[any](bus, "q").SendBatch(t.Context(), []any{1, "two", 3, 4}))
		got.want(t, []int{1, 3, 4})
		_, err = q.Dead().TryGet(t.Context())
		wantErr(t, "the dead letter", err, patterns.ErrCodec)
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

func TestBatchesAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		next := make(chan struct{})
		got.results = func([]int) error { <-next; return nil }
		sub, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(3), patterns.Workers(2))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 20)))
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(got.snapshot()); n != 2 {
			t.Errorf("%d batches at a time, want 2: %v", n, got.snapshot())
		}
		info, err := bus.Driver().(adapters.Inspector).Inspect(t.Context(), "q")
		must(t, err)
		if info.Unacked != 6 {
			t.Errorf("%d messages are held, want 6", info.Unacked)
		}
		if s := bus.Health().Subscriptions[0]; s.Workers != 2 || s.InHand != 6 {
			t.Errorf("health: %d workers with %d messages in hand, want 2 with 6", s.Workers, s.InHand)
		}
		close(next)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// Batches that are not full are no more at a time, and grow while they wait for their turn.
func TestBatchesAtATimeThatAreNotFull(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		got.results = func([]int) error { time.Sleep(time.Minute); return nil }
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(4), patterns.BatchWait(time.Second))
		must(t, err)
		for n := range 3 {
			must(t, q.Send(t.Context(), n))
			time.Sleep(10 * time.Second)
		}
		got.want(t, []int{0})
		time.Sleep(3 * time.Minute)
		got.want(t, []int{0}, []int{1, 2})
	})
}

// The only worker handles what comes in the order of the queue.
func TestBatchesKeepTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		must(t, q.SendBatch(t.Context(), numbers(1, 1000)))
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(7), patterns.WithMiddleware(tracing))
		must(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		if all := slices.Concat(got.snapshot()...); !slices.Equal(all, numbers(1, 1000)) {
			t.Errorf("the order is lost: %v", got.snapshot())
		}
		for i, b := range got.snapshot()[:1000/7] {
			if len(b) != 7 {
				t.Errorf("batch %d has %d values, want 7", i, len(b))
			}
		}
	})
}

// A shutdown finishes what was gathered, and fetches no more.
func TestBatchAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		ctx, stop := context.WithCancel(t.Context())
		sub, err := q.WorkBatch(ctx, got.handle, patterns.BatchSize(5), patterns.BatchWait(time.Hour))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 3)))
		got.want(t)
		begun := time.Now()
		stop()
		must(t, sub.Wait())
		got.want(t, numbers(1, 3))
		if d := time.Since(begun); d > 0 {
			t.Errorf("it took %v", d)
		}
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// A handler that does not finish in time gives its batch back, uncounted; one that ignores its ctx
// does, too.
func TestBatchDrainTimeout(t *testing.T) {
	for _, ignores := range []bool{false, true} {
		t.Run(fmt.Sprintf("ignores=%v", ignores), func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				release := make(chan struct{})
				sub, err := q.WorkBatch(t.Context(), func(ctx context.Context, _ []int) error {
					if ignores {
						<-release
						return nil
					}
					<-ctx.Done()
					return context.Cause(ctx)
				}, patterns.BatchSize(2), patterns.DrainTimeout(time.Minute))
				must(t, err)
				must(t, q.SendBatch(t.Context(), numbers(1, 3)))
				time.Sleep(time.Second)
				synctest.Wait()
				begun := time.Now()
				err = sub.Stop(t.Context())
				if errors.Is(err, patterns.ErrAbandoned) != ignores {
					t.Errorf("it ended with %v", err)
				}
				if d := time.Since(begun); d < time.Minute || d > time.Minute+2*time.Second {
					t.Errorf("it took %v", d)
				}
				var back []int
				for m, err := range q.Waiting(t.Context()) {
					must(t, err)
					back = append(back, m.Value)
					if m.Attempt != 1 {
						t.Errorf("%d is back as attempt %d", m.Value, m.Attempt)
					}
				}
				if ignores {
					slices.Sort(back)
				}
				if !slices.Equal(back, numbers(1, 3)) {
					t.Errorf("%v are back, want 1 to 3", back)
				}
				close(release)
			})
		})
	}
}

// What went back to the queue while it was gathered is not handled here.
func TestBatchIsWithoutWhatIsStale(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(10), patterns.BatchWait(time.Minute))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 3)))
		time.Sleep(time.Second)
		synctest.Wait()
		broker.Cut()
		time.Sleep(time.Second)
		synctest.Wait()
		must(t, q.SendBatch(t.Context(), numbers(4, 5)))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		all := slices.Concat(got.snapshot()...)
		slices.Sort(all)
		if !slices.Equal(all, numbers(1, 5)) {
			t.Errorf("batches %v, want 1 to 5 each once", got.snapshot())
		}
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// A session that is lost while the handler runs ends its ctx, and counts as no attempt.
func TestBatchLosesItsSession(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		var mu sync.Mutex
		var attempts []int
		var causes []error
		_, err := q.WorkBatch(t.Context(), func(ctx context.Context, batch []int) error {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range patterns.DeliveriesFrom(ctx) {
				attempts = append(attempts, d.Attempt)
			}
			if len(causes) == 0 {
				broker.Cut()
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
			}
			return ctx.Err()
		}, patterns.BatchSize(2))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 2)))
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(causes) == 0 || !errors.Is(causes[0], adapters.ErrSessionLost) {
			t.Errorf("its ctx ended with the causes %v", causes)
		}
		if !slices.Equal(attempts, []int{1, 1, 1, 1}) {
			t.Errorf("attempts %v, want 1 of two messages twice", attempts)
		}
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

func TestBatchHandlerTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		var took []time.Duration
		_, err := q.WorkBatch(t.Context(), func(ctx context.Context, _ []int) error {
			begun := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(begun))
			if len(took) == 1 {
				time.Sleep(time.Minute) // it ignores the end of its time
				if late := bus.Health().Subscriptions[0].Late; len(late) != 1 {
					t.Errorf("late handlers: %v, want one", late)
				}
			}
			return patterns.Reject(ctx.Err())
		}, patterns.BatchSize(2), patterns.BatchWait(time.Minute), patterns.HandlerTimeout(time.Second))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 3)))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !slices.Equal(took, []time.Duration{time.Second, time.Second}) {
			t.Errorf("the handler had %v, want twice a second", took)
		}
	})
}

func TestDeliveriesFrom(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		var ids []string
		_, err := q.WorkBatch(t.Context(), func(ctx context.Context, batch []int) error {
			for i, d := range patterns.DeliveriesFrom(ctx) {
				ids = append(ids, fmt.Sprint(d.ID, "=", batch[i], " ", d.Headers["table"], " from ", d.Queue))
			}
			if _, ok := patterns.DeliveryFrom(ctx); ok {
				t.Error("DeliveryFrom says of a batch which message it is")
			}
			return nil
		}, patterns.BatchSize(2))
		must(t, err)
		must(t, q.Send(t.Context(), 1, patterns.MessageID("a"), patterns.Header("table", "7")))
		must(t, q.Send(t.Context(), 2, patterns.MessageID("b"), patterns.Header("table", "8")))
		synctest.Wait()
		if want := []string{"a=1 7 from q", "b=2 8 from q"}; !slices.Equal(ids, want) {
			t.Errorf("deliveries %v, want %v", ids, want)
		}
		if all := patterns.DeliveriesFrom(t.Context()); all != nil {
			t.Errorf("outside of a handler: %v", all)
		}
	})
}

// Middleware and OnSettle are told of each message.
func TestBatchMiddleware(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[string](bus, "q")
		var mu sync.Mutex
		told := map[string]string{}
		results := map[string]patterns.Result{}
		mw := func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				if m.UUID == "known" {
					return nil, nil // as an idempotent one does
				}
				produced, err := next(m)
				mu.Lock()
				defer mu.Unlock()
				told[m.UUID] = fmt.Sprint(err)
				return produced, err
			}
		}
		var batch []string
		_, err := q.WorkBatch(t.Context(), func(_ context.Context, values []string) error {
			batch = append(batch, values...)
			return patterns.BatchError{1: patterns.Reject(errKitchen)}
		}, patterns.BatchSize(3), patterns.BatchWait(time.Second), patterns.WithMiddleware(mw),
			patterns.OnSettle(func(_ context.Context, s patterns.Settlement) {
				mu.Lock()
				defer mu.Unlock()
				results[s.ID] = s.Result
			}))
		must(t, err)
		for _, id := range []string{"a", "known", "b"} {
			must(t, q.Send(t.Context(), id, patterns.MessageID(id)))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := []string{"a", "b"}; !slices.Equal(batch, want) {
			t.Errorf("the batch was %v, want %v", batch, want)
		}
		if want := map[string]string{"a": "<nil>", "b": errKitchen.Error()}; !maps.Equal(told, want) {
			t.Errorf("middleware was told %v, want %v", told, want)
		}
		if want := map[string]patterns.Result{
			"a": patterns.ResultAcknowledged, "known": patterns.ResultAcknowledged, "b": patterns.ResultDeadLettered,
		}; !maps.Equal(results, want) {
			t.Errorf("OnSettle was told %v, want %v", results, want)
		}
	})
}

// Retries of a middleware, and those in process, are in further batches.
func TestBatchAgainInProcess(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		got.results = func([]int) error {
			if len(got.snapshot()) == 1 {
				return patterns.RetryAfter(time.Second, errKitchen)
			}
			return nil
		}
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(3), patterns.Retry(patterns.RetryPolicy{InProcess: true}))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 3)))
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := got.snapshot(); len(all) != 2 || len(all[1]) != 3 {
			t.Errorf("batches %v, want the same three twice", all)
		}
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

func TestBatchAckOnReceive(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		got := newBatches()
		got.results = func([]int) error { return patterns.BatchError{0: errKitchen} }
		var dropped []string
		_, err := q.WorkBatch(t.Context(), got.handle, patterns.BatchSize(3), patterns.BatchWait(time.Second), patterns.AckOnReceive(),
			patterns.OnDrop(func(d patterns.Delivery, err error) { dropped = append(dropped, string(d.Payload)) }))
		must(t, err)
		must(t, q.SendBatch(t.Context(), numbers(1, 2)))
		synctest.Wait()
		if n := depth(t, bus, "q"); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got.want(t, numbers(1, 2))
		if !slices.Equal(dropped, []string{"1"}) {
			t.Errorf("dropped: %v, want 1", dropped)
		}
	})
}

func TestBatchOptionsAreChecked(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	fine := func(context.Context, []int) error { return nil }
	rows := map[string]struct {
		handler patterns.BatchHandler[int]
		opts    []patterns.BatchOption
	}{
		"nil handler":              {nil, nil},
		"BatchSize(0)":             {fine, []patterns.BatchOption{patterns.BatchSize(0)}},
		"BatchWait(0s)":            {fine, []patterns.BatchOption{patterns.BatchWait(0)}},
		"BatchSize is given twice": {fine, []patterns.BatchOption{patterns.BatchSize(1), patterns.BatchSize(2)}},
		"BatchSize(1000) for 66":   {fine, []patterns.BatchOption{patterns.BatchSize(1000), patterns.Workers(66)}},
		"Prefetch(9) for 10":       {fine, []patterns.BatchOption{patterns.BatchSize(10), patterns.Prefetch(9)}},
		"nil option":               {fine, []patterns.BatchOption{nil}},
		"Retry and AckOnReceive":   {fine, []patterns.BatchOption{patterns.NoRetry(), patterns.AckOnReceive()}},
		"middleware 0 is nil":      {fine, []patterns.BatchOption{patterns.WithMiddleware(nil)}},
	}
	for want, r := range rows {
		_, err := q.WorkBatch(t.Context(), r.handler, r.opts...)
		if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an ErrInvalid that says %q", err, want)
		}
	}
}
