package patterns_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// reason returns what the one dead letter of q says that it died of, and takes it away.
func reason(t *testing.T, q *patterns.WorkQueue[order]) string {
	t.Helper()
	letter, err := q.Dead().TryGet(t.Context())
	if err != nil {
		t.Fatalf("no dead letter: %v", err)
	}
	must(t, letter.Ack(t.Context()))
	return letter.Headers[patterns.HeaderReason]
}

// TestMaxAge: a message that is older than MaxAge when its turn comes goes to the dead letters and
// no handler sees it, whatever kind of handler that is. One that is as old as that is handled.
func TestMaxAge(t *testing.T) {
	works := map[string]func(t *testing.T, q *patterns.WorkQueue[order], j *journal[int], opts ...patterns.FailureOption) (*patterns.Subscription, error){
		"one": func(t *testing.T, q *patterns.WorkQueue[order], j *journal[int], opts ...patterns.FailureOption) (*patterns.Subscription, error) {
			return q.Work(t.Context(), func(_ context.Context, o order) error { j.add(o.ID); return nil }, workOptions(opts)...)
		},
		"acknowledged when received": func(t *testing.T, q *patterns.WorkQueue[order], j *journal[int], opts ...patterns.FailureOption) (*patterns.Subscription, error) {
			return q.Work(t.Context(), func(_ context.Context, o order) error { j.add(o.ID); return nil },
				append(workOptions(opts), patterns.AckOnReceive())...)
		},
		"by key": func(t *testing.T, q *patterns.WorkQueue[order], j *journal[int], opts ...patterns.FailureOption) (*patterns.Subscription, error) {
			return q.Work(t.Context(), func(_ context.Context, o order) error { j.add(o.ID); return nil },
				append(workOptions(opts), patterns.OrderBy(func(order) string { return "" }))...)
		},
		"batch": func(t *testing.T, q *patterns.WorkQueue[order], j *journal[int], opts ...patterns.FailureOption) (*patterns.Subscription, error) {
			return q.WorkBatch(t.Context(), func(_ context.Context, batch []order) error {
				for _, o := range batch {
					j.add(o.ID)
				}
				return nil
			}, opts[0])
		},
	}
	for name, work := range works {
		t.Run(name, func(t *testing.T) {
			settled := newJournal[patterns.Settlement]()
			hook := patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { settled.add(s) })
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				must(t, q.Send(t.Context(), order{ID: 1}))
				time.Sleep(time.Minute)
				must(t, q.Send(t.Context(), order{ID: 2}))
				time.Sleep(10 * time.Minute)
				must(t, q.Send(t.Context(), order{ID: 3}))
				handled := newJournal[int]()
				sub, err := work(t, q, handled, patterns.MaxAge(10*time.Minute))
				must(t, err)
				time.Sleep(time.Second) // a batch is gathered
				synctest.Wait()
				if got := handled.snapshot(); !slices.Equal(got, []int{2, 3}) {
					t.Errorf("handled %v", got)
				}
				if got := reason(t, q); got != "too old: 11m0s, and MaxAge is 10m0s" {
					t.Errorf("the reason is %q", got)
				}
				i := slices.IndexFunc(settled.snapshot(), func(s patterns.Settlement) bool { return s.Result == patterns.ResultDeadLettered })
				if stats := bus.Stats(); i < 0 || stats.DeadLettered != 1 {
					t.Fatalf("settled %+v, %+v", settled.snapshot(), stats)
				}
				s := settled.snapshot()[i]
				wantErr(t, "what OnSettle is told", s.Err, patterns.ErrTooOld)
				if s.TimeInQueue != 11*time.Minute {
					t.Errorf("%v in the queue", s.TimeInQueue)
				}
				must(t, sub.Stop(t.Context()))
			}, hook)
		})
	}
}

func workOptions(opts []patterns.FailureOption) (all []patterns.WorkOption) {
	for _, o := range opts {
		all = append(all, o)
	}
	return all
}

// TestMaxAgeOfRetries: a message gets old while it is tried again, wherever it waits for that.
func TestMaxAgeOfRetries(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{
		"at the broker": nil,
		"in process":    {patterns.Retry(patterns.RetryPolicy{Attempts: 99, Min: time.Minute, Max: time.Minute, InProcess: true})},
		"by key":        {patterns.OrderBy(func(order) string { return "" })},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				tries := newJournal[int]()
				if name != "in process" {
					opts = append(opts, patterns.Retry(patterns.RetryPolicy{Attempts: 99, Min: time.Minute, Max: time.Minute}))
				}
				opts = append(opts, patterns.MaxAge(150*time.Second))
				sub, err := q.Work(t.Context(), func(context.Context, order) error { tries.add(1); return errKitchen }, opts...)
				must(t, err)
				must(t, q.Send(t.Context(), order{ID: 1}))
				time.Sleep(time.Hour)
				if n := len(tries.snapshot()); n != 3 {
					t.Errorf("tried %d times, want 3", n)
				}
				if got := reason(t, q); !strings.HasPrefix(got, "too old: ") {
					t.Errorf("the reason is %q", got)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// TestMaxAgeCountsFrom: a publisher's time counts, and a delay is part of a message's age.
func TestMaxAgeCountsFrom(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		handled := newJournal[int]()
		must(t, q.Declare(t.Context()))
		client := broker.Connect()
		foreign := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}}
		foreign.ContentType, foreign.Timestamp = "application/json", time.Unix(0, 0) // as old as can be
		must(t, client.Publish(t.Context(), foreign, watermill.NewMessage("old", []byte(`{"id":1}`))))
		must(t, client.Close(t.Context()))
		must(t, q.Send(t.Context(), order{ID: 2}, patterns.Delay(time.Hour)))
		sub, err := q.Work(t.Context(), func(_ context.Context, o order) error { handled.add(o.ID); return nil }, patterns.MaxAge(time.Minute))
		must(t, err)
		time.Sleep(2 * time.Hour)
		if got := handled.snapshot(); len(got) > 0 || bus.Stats().DeadLettered != 2 {
			t.Errorf("handled %v", got)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestMaxAgeOfLetters: a dead letter that is sent back, by whatever means, is handled: its age
// counts from then, and ends there, too.
func TestMaxAgeOfLetters(t *testing.T) {
	for name, sendBack := range map[string]func(t *testing.T, q *patterns.WorkQueue[order]){
		"redriven": func(t *testing.T, q *patterns.WorkQueue[order]) {
			_, err := q.Dead().Redrive(t.Context())
			must(t, err)
		},
		"sent as received": func(t *testing.T, q *patterns.WorkQueue[order]) {
			for letter, err := range q.Dead().Waiting(t.Context()) {
				must(t, err)
				must(t, q.Send(t.Context(), letter.Value, patterns.AsReceived(letter.Delivery)))
				must(t, letter.Ack(t.Context()))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				must(t, q.Send(t.Context(), order{ID: 1}))
				time.Sleep(time.Hour)
				handled := newJournal[int]()
				var mended atomic.Bool
				sub, err := q.Work(t.Context(), func(_ context.Context, o order) error {
					handled.add(o.ID)
					if mended.Load() {
						return nil
					}
					return errKitchen
				}, patterns.MaxAge(time.Minute), patterns.Retry(patterns.RetryPolicy{Min: 40 * time.Second}))
				must(t, err)
				time.Sleep(time.Hour)
				if got := handled.snapshot(); len(got) != 0 {
					t.Fatalf("handled %v, which is too old", got)
				}
				sendBack(t, q)
				time.Sleep(time.Hour)
				if got := handled.snapshot(); len(got) != 2 {
					t.Errorf("it was tried %d times, want until it was too old again", len(got))
				}
				mended.Store(true)
				sendBack(t, q)
				time.Sleep(time.Hour)
				if got := handled.snapshot(); len(got) != 3 {
					t.Errorf("it was tried %d times", len(got))
				}
				must(t, sub.Stop(t.Context()))
				if _, err := q.Dead().TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
					t.Errorf("a letter is left: %v", err)
				}
			})
		})
	}
}

// TestMaxAgeRefused: where it would have no effect, or make messages go in circles.
func TestMaxAgeRefused(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	nothing := func(context.Context, order) error { return nil }
	_, err := q.Work(t.Context(), nothing, patterns.MaxAge(0))
	wantErr(t, "MaxAge of 0", err, adapters.ErrInvalid)
	_, err = q.Work(t.Context(), nothing, patterns.MaxAge(1), patterns.MaxAge(2))
	wantErr(t, "MaxAge twice", err, adapters.ErrInvalid)
	_, err = q.Dead().Work(t.Context(), nothing, patterns.MaxAge(time.Hour))
	wantErr(t, "MaxAge of dead letters", err, adapters.ErrInvalid)
}

// TestMaxAgeWithNoDeadLetters: what is too old goes to OnDrop.
func TestMaxAgeWithNoDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders", patterns.NoDeadLetter())
		must(t, q.Send(t.Context(), order{ID: 1}))
		time.Sleep(time.Hour)
		dropped := newJournal[error]()
		sub, err := q.Work(t.Context(), func(context.Context, order) error { t.Error("handled"); return nil }, patterns.MaxAge(time.Minute),
			patterns.OnDrop(func(_ patterns.Delivery, err error) { dropped.add(err) }))
		must(t, err)
		synctest.Wait()
		if all := dropped.snapshot(); len(all) != 1 || !errors.Is(all[0], patterns.ErrTooOld) {
			t.Errorf("dropped %v", all)
		}
		must(t, sub.Stop(t.Context()))
	})
}
