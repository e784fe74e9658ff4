package patterns_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestGet(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		wantErr(t, "TryGet of an empty queue", second(q.TryGet(t.Context())), adapters.ErrEmpty)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		wantErr(t, "Get of an empty queue", second(q.Get(ctx)), context.DeadlineExceeded)
		if time.Since(start) != time.Minute {
			t.Errorf("waited %v", time.Since(start))
		}
		go func() {
			time.Sleep(time.Hour)
			must(t, q.SendBatch(t.Context(), []int{1, 2}))
		}()
		got, err := q.Get(t.Context())
		must(t, err)
		if got.Value != 1 || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("got %d after %v", got.Value, time.Since(start))
		}
		synctest.Wait() // for the other one
		must(t, got.Requeue(t.Context()))
		must(t, got.Ack(t.Context())) // too late, and harmless
		got, err = q.TryGet(t.Context())
		must(t, err)
		if got.Value != 1 || !got.Redelivered {
			t.Errorf("after Requeue %+v", got)
		}
		must(t, got.Reject(t.Context(), errKitchen))
		if dead := take(t, q.Dead()); dead.Headers[patterns.HeaderReason] != errKitchen.Error() {
			t.Errorf("dead letter %+v", dead)
		}
		got, err = q.TryGet(t.Context())
		must(t, err)
		broker.Cut()
		wantErr(t, "Ack after the session was lost", got.Ack(t.Context()), adapters.ErrStaleDelivery)
		if got := take(t, q); got.Value != 2 {
			t.Errorf("after the cut %+v", got)
		}
	})
}

func TestManyGettersShareOneQueue(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	got := newJournal[int]()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				v, err := q.Get(bounded(t))
				if err != nil {
					t.Error(err)
					return
				}
				got.add(v.Value)
				must(t, v.Ack(bounded(t)))
			}
		})
	}
	for i := range 200 {
		must(t, q.Send(bounded(t), i))
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, v := range got.snapshot() {
		if seen[v] {
			t.Errorf("%d was taken twice", v)
		}
		seen[v] = true
	}
	if len(seen) != 200 {
		t.Errorf("%d taken", len(seen))
	}
}

func TestTakenIsSettledOnce(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		next := func() *patterns.Message[int] {
			t.Helper()
			must(t, q.Send(t.Context(), 1))
			got, err := q.TryGet(t.Context())
			must(t, err)
			return got
		}
		got := next()
		must(t, got.Ack(t.Context()))
		must(t, got.Reject(t.Context(), errKitchen)) // too late, and harmless
		got = next()
		broker.Cut()
		wantErr(t, "Reject after the session was lost", got.Reject(t.Context(), errKitchen), adapters.ErrStaleDelivery)
		take(t, q)
		wantErr(t, "dead letters", second(q.Dead().TryGet(t.Context())), adapters.ErrEmpty)

		got = next()
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q.dead", Do: memory.Refuse, Times: 1})
		wantErr(t, "Reject that is refused", got.Reject(t.Context(), errKitchen), adapters.ErrUnavailable)
		must(t, got.Reject(t.Context(), nil)) // once more
		must(t, got.Reject(t.Context(), nil))
		if dead := take(t, q.Dead()); dead.Headers[patterns.HeaderReason] != "rejected" || dead.Headers[patterns.HeaderQueue] != "q" {
			t.Errorf("dead letter %+v", dead.Delivery)
		}
		wantErr(t, "dead letters", second(q.Dead().TryGet(t.Context())), adapters.ErrEmpty)

		q = patterns.NewWorkQueue[int](bus, "no-dead", patterns.NoDeadLetter())
		must(t, next().Reject(t.Context(), errKitchen))
		if s := bus.Stats(); s.Dropped != 1 || s.DeadLettered != 1 {
			t.Errorf("%+v", s)
		}
	})
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, q.Send(bounded(t), 1))
	got, err := q.TryGet(bounded(t))
	must(t, err)
	must(t, bus.Close(bounded(t)))
	wantErr(t, "Reject after Close", got.Reject(bounded(t), errKitchen), adapters.ErrClosed)
}

func TestGetGivesBackWhatItCanNeitherDecodeNorBury(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, patterns.NewWorkQueue[string](bus, "q").Send(bounded(t), "seven"))
	broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q.dead", Do: memory.Refuse, Times: 1})
	err := second(q.TryGet(bounded(t)))
	wantErr(t, "TryGet", err, patterns.ErrCodec)
	wantErr(t, "TryGet", err, adapters.ErrUnavailable)
	if info, _ := broker.Queue("q"); info.Ready != 1 || info.Unacked != 0 {
		t.Errorf("the message is not back: %+v", info)
	}
	wantErr(t, "TryGet again", second(q.Get(bounded(t))), patterns.ErrCodec)
	if info, _ := broker.Queue("q.dead"); info.Ready != 1 {
		t.Errorf("dead letters %+v", info)
	}
}

// A Get takes one message, and leaves no mark on the others.
func TestGetTakesOne(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, q.SendBatch(bounded(t), []int{1, 2, 3}))
	for range 3 {
		got, err := q.Get(bounded(t))
		must(t, err)
		if got.Redelivered {
			t.Errorf("%d was taken before", got.Value)
		}
		got.Headers["mine"] = "yes"
		must(t, got.Ack(bounded(t)))
	}
}

// A queue of somebody else's keeps its own dead-letter setting.
func TestPassiveRejects(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		must(t, patterns.NewWorkQueue[int](bus, "theirs", patterns.DeadLetter("graveyard")).Declare(t.Context()))
		q := patterns.NewWorkQueue[int](bus, "theirs", patterns.Passive())
		must(t, q.SendBatch(t.Context(), []int{1, 2}))
		got, err := q.TryGet(t.Context())
		must(t, err)
		must(t, got.Reject(t.Context(), errKitchen))
		_, err = q.Work(t.Context(), func(context.Context, int) error { return patterns.Reject(errKitchen) })
		must(t, err)
		synctest.Wait()
		if info, _ := broker.Queue("graveyard"); info.Ready != 2 {
			t.Errorf("the dead letters are %+v", info)
		}
		wantErr(t, "Dead", second(q.Dead().TryGet(t.Context())), adapters.ErrInvalid)
	})
	broker := memory.New()
	defer broker.Close()
	must(t, patterns.NewWorkQueue[int](patterns.New(broker.Connect()), "theirs").Declare(bounded(t)))
	bus := patterns.New(&lackingDriver{broker.Connect(), adapters.CanDeadLetter})
	q := patterns.NewWorkQueue[int](bus, "theirs", patterns.Passive(), patterns.DeadLetter("ours")) // is ours to send to
	must(t, second(q.Work(bounded(t), func(context.Context, int) error { return nil })))
	must(t, bus.Close(bounded(t)))
}
