package patterns_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type openGate struct{}

func (openGate) Wait(context.Context) (bool, error) { return true, nil }
func (openGate) Fetched()                           {}

func TestOrderByIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		for name, opts := range map[string][]patterns.WorkOption{
			"nil":                            {patterns.OrderBy[step](nil)},
			"twice":                          {patterns.OrderBy(byKey), patterns.OrderBy(byKey)},
			"another type":                   {patterns.OrderBy(func(s string) string { return s })},
			"a pointer to the type":          {patterns.OrderBy(func(s *step) string { return s.Key })},
			"with a gate":                    {patterns.OrderBy(byKey), patterns.WithGate(openGate{})},
			"retries of no order":            {patterns.OvertakeRetries()},
			"fewer messages than workers":    {patterns.OrderBy(byKey), patterns.Workers(2), patterns.Prefetch(1)},
			"overtaken retries, given twice": {patterns.OrderBy(byKey), patterns.OvertakeRetries(), patterns.OvertakeRetries()},
		} {
			_, err := patterns.NewWorkQueue[step](bus, "jobs").Work(t.Context(), func(context.Context, step) error { return nil }, opts...)
			wantErr(t, name, err, adapters.ErrInvalid)
		}
		_, err := patterns.NewPubSub[step](bus, "news").Subscribe(t.Context(), func(context.Context, step) error { return nil },
			patterns.OrderBy(func(s string) string { return s }))
		wantErr(t, "another type, of an exchange", err, adapters.ErrInvalid)
	})
}

// TestOrderByWithoutPlaces: where what comes back loses its place there is no order by key, but in
// the partitions of a queue.
func TestOrderByWithoutPlaces(t *testing.T) {
	for also, lacks := range map[string]adapters.Ability{"Partitions": adapters.CanRequeue, "": adapters.CanRequeue | adapters.CanSingleActive} {
		broker := memory.New()
		bus := patterns.New(&lackingDriver{broker.Connect(), lacks})
		handler := func(context.Context, step) error { return nil }
		_, workErr := patterns.NewWorkQueue[step](bus, "jobs").Work(bounded(t), handler, patterns.OrderBy(byKey))
		_, groupErr := patterns.NewPubSub[step](bus, "news").Subscribe(bounded(t), handler, patterns.Group("g"), patterns.OrderBy(byKey))
		for what, err := range map[string]error{"work": workErr, "subscribe": groupErr} {
			unsupported, ok := errors.AsType[*adapters.UnsupportedError](err)
			if !ok || unsupported.Missing != adapters.CanRequeue || !strings.Contains(err.Error(), also) || also == "" && strings.Contains(err.Error(), "Partitions") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if also != "" {
			must(t, second(patterns.NewWorkQueue[step](bus, "parted", patterns.Partitions(2, byKey)).Work(bounded(t), handler)))
		}
		must(t, bus.Close(bounded(t)))
		broker.Close()
	}
}

// TestOrderByOfOddMessages: one that does not decode, or whose key cannot be told, is the failure
// of this message, and of no other.
func TestOrderByOfOddMessages(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs")
		must(t, patterns.NewWorkQueue[string](bus, "jobs").Send(t.Context(), "no step"))
		for n, key := range []string{"panics", "exits", "a", "a"} {
			must(t, jobs.Send(t.Context(), step{key, n}))
		}
		seen := newJournal[string]()
		sub, err := jobs.Work(t.Context(), func(ctx context.Context, s step) error {
			seen.add(s.String())
			return nil
		}, patterns.OrderBy(func(s step) string {
			switch s.Key {
			case "panics":
				panic("no key")
			case "exits":
				runtime.Goexit()
			}
			return s.Key
		}))
		must(t, err)
		time.Sleep(time.Minute)
		if got := seen.snapshot(); !slices.Equal(got, []string{"a2", "a3"}) {
			t.Errorf("handled %v", got)
		}
		var reasons []string
		for d, err := range patterns.NewWorkQueue[patterns.Raw](bus, "jobs.dead", patterns.NoDeadLetter()).Waiting(t.Context()) {
			must(t, err)
			reasons = append(reasons, d.Headers[patterns.HeaderReason])
			must(t, d.Ack(t.Context()))
		}
		if all := strings.Join(reasons, "\n"); len(reasons) != 3 || !strings.Contains(all, "decoding") || !strings.Contains(all, "no key") || !strings.Contains(all, "Goexit") {
			t.Errorf("reasons: %q", reasons)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// TestOrderByOfSubscriptions: with a group and without one, with middleware that changes what it
// gets, and acknowledged on receipt.
func TestOrderByOfSubscriptions(t *testing.T) {
	for name, opts := range map[string][]patterns.SubscribeOption{
		"a group": {patterns.Group("g")},
		"private": nil,
		"middleware": {patterns.Group("g"), patterns.WithMiddleware(func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				m.Payload = bytes.Replace(m.Payload, []byte(`"N":`), []byte(`"N":0, "N":`), 1) // what the handler gets
				return next(m)
			}
		})},
		"acknowledged on receipt": {patterns.AckOnReceive()},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				news := patterns.NewPubSub[step](bus, "news")
				h := newHistory()
				sub, err := news.Subscribe(t.Context(), func(ctx context.Context, s step) error {
					h.begin(s)
					d, _ := patterns.DeliveryFrom(ctx)
					fails := s.N%3 == 1 && d.Attempt == 1 && name != "acknowledged on receipt"
					defer func() { h.end(s, !fails) }()
					time.Sleep(time.Second)
					if fails {
						return errKitchen
					}
					return nil
				}, append(opts, patterns.OrderBy(byKey), patterns.Workers(4))...)
				must(t, err)
				for n := range 6 {
					for _, key := range []string{"a", "b", "c", "d"} {
						must(t, news.Publish(t.Context(), step{key, n}))
					}
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				h.check(t, 4, 6)
				if h.most != 4 {
					t.Errorf("at most %d ran at a time", h.most)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// TestOrderByOfALostPrivateSubscription: a message that waited to be tried again is reported as
// dropped, and the key goes on.
func TestOrderByOfALostPrivateSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		news := patterns.NewPubSub[step](bus, "news")
		dropped, seen := newJournal[string](), newJournal[string]()
		sub, err := news.Subscribe(t.Context(), func(ctx context.Context, s step) error {
			seen.add(s.String())
			if s.N == 0 {
				return errKitchen
			}
			return nil
		}, patterns.OrderBy(byKey), patterns.Retry(patterns.RetryPolicy{Min: time.Hour}),
			patterns.OnDrop(func(d patterns.Delivery, err error) { dropped.add(d.ID) }))
		must(t, err)
		must(t, news.Publish(t.Context(), step{"a", 0}, patterns.MessageID("first")))
		must(t, news.Publish(t.Context(), step{"a", 1}))
		synctest.Wait()
		broker.Cut()
		must(t, news.Publish(t.Context(), step{"a", 2}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := seen.snapshot(); !slices.Equal(got, []string{"a0", "a2"}) {
			t.Errorf("handled %v", got)
		}
		if got := dropped.snapshot(); !slices.Equal(got, []string{"first"}) {
			t.Errorf("dropped %v", got)
		}
		must(t, sub.Stop(t.Context()))
	})
}

// A handler may keep its ctx, which is that of its attempt whatever comes later.
func TestOrderByKeepsTheContextsOfAttempts(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		jobs := patterns.NewWorkQueue[step](bus, "jobs")
		must(t, jobs.Send(t.Context(), step{"a", 1}))
		kept := newJournal[context.Context]()
		_, err := jobs.Work(t.Context(), func(ctx context.Context, _ step) error {
			kept.add(ctx)
			if d, _ := patterns.DeliveryFrom(ctx); d.Attempt < 4 {
				return errKitchen
			}
			return nil
		}, patterns.OrderBy(byKey), patterns.Retry(patterns.RetryPolicy{Attempts: 4, Min: time.Second}))
		must(t, err)
		time.Sleep(time.Minute)
		var attempts []int
		for _, ctx := range kept.snapshot() {
			d, _ := patterns.DeliveryFrom(ctx)
			attempts = append(attempts, d.Attempt)
		}
		if want := []int{1, 2, 3, 4}; !slices.Equal(attempts, want) {
			t.Errorf("the contexts are those of attempts %v, want %v", attempts, want)
		}
	})
}
