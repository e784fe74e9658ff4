package patterns_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// handleOnce has a handler fail with one message, and returns how often it was
// tried and what became of it.
func handleOnce(t *testing.T, handler func() error, opts ...patterns.WorkOption) (tries int, dead *patterns.Message[order]) {
	t.Helper()
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{}))
		_, err := q.Work(t.Context(), func(context.Context, order) error { tries++; return handler() }, opts...)
		must(t, err)
		time.Sleep(time.Hour)
		synctest.Wait()
		if info, _ := broker.Queue("orders"); info.Ready+info.Unacked != 0 {
			t.Errorf("left %+v", info)
		}
		dead, _ = q.Dead().TryGet(t.Context())
	})
	return tries, dead
}

// A handler may have the error from anywhere: of a subscription that is not
// being stopped it is one like any other.
func TestErrShutdownOfARunningSubscriptionIsNoHotLoop(t *testing.T) {
	if tries, dead := handleOnce(t, func() error { return patterns.ErrShutdown }); tries != 5 || dead == nil {
		t.Errorf("tried %d times, dead letter %v", tries, dead)
	}
}

// An error with a nil pointer in it panics when it is asked what it is.
func TestErrorsThatPanic(t *testing.T) {
	var none *os.PathError
	tries, dead := handleOnce(t, func() error { return none })
	if tries != 5 || dead == nil || dead.Headers[patterns.HeaderReason] != "the handler returned a *fs.PathError whose methods panic" {
		t.Errorf("a nil *os.PathError: tried %d times, %v", tries, dead)
	}
	tries, dead = handleOnce(t, func() error { panic(none) })
	if tries != 5 || dead == nil || dead.Headers[patterns.HeaderReason] != "handler panicked: <nil>" {
		t.Errorf("panic with a nil *os.PathError: tried %d times, %v", tries, dead)
	}
}

func TestGoexitInProcess(t *testing.T) {
	tries, dead := handleOnce(t, func() error { runtime.Goexit(); return nil }, patterns.Retry(patterns.RetryPolicy{InProcess: true}))
	if tries != 1 || dead == nil || dead.Headers[patterns.HeaderReason] != "handler called runtime.Goexit" {
		t.Errorf("tried %d times, %v", tries, dead)
	}
	tries, dead = handleOnce(t, func() func() error {
		tried := false
		return func() error {
			if !tried {
				tried = true
				return errKitchen
			}
			runtime.Goexit()
			return nil
		}
	}(), patterns.Retry(patterns.RetryPolicy{InProcess: true}))
	if tries != 2 || dead == nil || dead.Headers[patterns.HeaderReason] != "handler called runtime.Goexit" {
		t.Errorf("after another try: tried %d times, %v", tries, dead)
	}
}

// A middleware that acknowledges before the handler means at most once.
func TestAckedMessageIsNotTriedAgainWhateverHappens(t *testing.T) {
	for name, handler := range map[string]func() error{
		"error": func() error { return errKitchen },
		"panic": func() error { panic("boom") },
	} {
		tries, dead := handleOnce(t, handler, patterns.WithMiddleware(middleware.InstantAck))
		if tries != 1 || dead != nil {
			t.Errorf("%s: tried %d times, dead letter %v", name, tries, dead)
		}
	}
	nack := func(message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) { m.Nack(); return nil, nil }
	}
	if _, dead := handleOnce(t, nil, patterns.WithMiddleware(nack)); dead == nil {
		t.Error("a message that a middleware nacked was acknowledged")
	}
}

func TestOnDropThatDoesNotReturn(t *testing.T) {
	t.Run("blocks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broker := memory.New()
			defer broker.Close()
			bus := patterns.New(broker.Connect())
			q := patterns.NewWorkQueue[order](bus, "orders", patterns.NoDeadLetter())
			release := make(chan struct{})
			_, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(nil) },
				patterns.OnDrop(func(patterns.Delivery, error) { <-release }), patterns.DrainTimeout(time.Minute))
			must(t, err)
			must(t, q.Send(t.Context(), order{}))
			synctest.Wait()
			start := time.Now()
			wantErr(t, "Close", bus.Close(t.Context()), patterns.ErrAbandoned)
			if d := time.Since(start); d > 2*time.Minute {
				t.Errorf("closed after %v", d)
			}
			if n := bus.Stats().Requeued; n != 0 {
				t.Errorf("%d given back that were given up", n)
			}
			close(release)
		})
	})
	t.Run("stops its subscription", func(t *testing.T) {
		bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
			q := patterns.NewWorkQueue[order](bus, "orders", patterns.NoDeadLetter())
			var sub *patterns.Subscription
			result := make(chan error, 1)
			sub, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(nil) },
				patterns.OnDrop(func(patterns.Delivery, error) { result <- sub.Stop(t.Context()) }))
			must(t, err)
			must(t, q.Send(t.Context(), order{}))
			wantErr(t, "Stop from within", <-result, patterns.ErrAbandoned)
		})
	})
	t.Run("exits", func(t *testing.T) {
		bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
			q := patterns.NewWorkQueue[order](bus, "orders", patterns.NoDeadLetter())
			_, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(nil) },
				patterns.OnDrop(func(patterns.Delivery, error) {
					if info, _ := broker.Queue("orders"); info.Unacked != 1 {
						t.Errorf("settled before OnDrop could save it: %+v", info)
					}
					runtime.Goexit()
				}))
			must(t, err)
			must(t, q.SendBatch(t.Context(), make([]order, 3)))
			synctest.Wait()
			if info, _ := broker.Queue("orders"); info.Ready+info.Unacked != 0 {
				t.Errorf("left %+v", info)
			}
		})
	})
}

func TestHandlerThatClosesItsBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect())
		q := patterns.NewWorkQueue[order](bus, "orders")
		result := make(chan error, 1)
		_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			result <- bus.Close(ctx)
			return nil
		}, patterns.DrainTimeout(time.Minute))
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		wantErr(t, "Close from within", <-result, patterns.ErrAbandoned)
		if info, _ := broker.Queue("orders"); info.Ready != 1 {
			t.Errorf("the message is not back: %+v", info)
		}
	})
}

// What was acknowledged on receipt cannot be given back.
func TestAbandonedAfterAckOnReceive(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		release := make(chan struct{})
		dropped := 0
		sub, err := q.Work(t.Context(), func(context.Context, order) error { <-release; return errKitchen },
			patterns.AckOnReceive(), patterns.DrainTimeout(0), patterns.OnDrop(func(patterns.Delivery, error) { dropped++ }))
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		wantErr(t, "Stop", sub.Stop(t.Context()), patterns.ErrAbandoned)
		close(release)
		synctest.Wait()
		if s := bus.Stats(); s.Requeued != 0 || s.Dropped != 1 || dropped != 1 {
			t.Errorf("told %d times, %+v", dropped, s)
		}
	})
}

// trap is a type whose decoder panics.
type trap struct{ order }

func (*trap) UnmarshalJSON([]byte) error { panic("boom") }

var _ json.Unmarshaler = (*trap)(nil)

func TestDecoderThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[trap](bus, "traps")
		must(t, q.Send(t.Context(), trap{}))
		wantErr(t, "TryGet", second(q.TryGet(t.Context())), patterns.ErrCodec)
		_, err := q.Work(t.Context(), func(context.Context, trap) error { return nil })
		must(t, err)
		must(t, q.Send(t.Context(), trap{}))
		synctest.Wait()
		if n := bus.Stats().DeadLettered; n != 2 {
			t.Errorf("%d dead at once", n)
		}
	})
}

func TestZeroOptionsAreRefused(t *testing.T) {
	bus, _ := newBus(t)
	nop := func(context.Context, order) error { return nil }
	q := patterns.NewWorkQueue[order](bus, "q")
	wantErr(t, "ConsumeOption", second(q.Work(bounded(t), nop, patterns.ConsumeOption{})), adapters.ErrInvalid)
	wantErr(t, "FailureOption", second(q.Work(bounded(t), nop, patterns.FailureOption{})), adapters.ErrInvalid)
	wantErr(t, "QueueOption", patterns.NewWorkQueue[order](bus, "q", patterns.QueueOption{}).Declare(bounded(t)), adapters.ErrInvalid)
	must(t, second(q.Work(bounded(t), nop, patterns.WithMiddleware())))
}

// A middleware that panics while it is being applied must leave no consumer
// behind.
func TestMiddlewareThatPanicsWhenApplied(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "q")
	must(t, q.Declare(bounded(t)))
	func() {
		defer func() { _ = recover() }()
		_, _ = q.Work(bounded(t), func(context.Context, order) error { return nil },
			patterns.WithMiddleware(func(message.HandlerFunc) message.HandlerFunc { panic("boom") }))
	}()
	if info, _ := broker.Queue("q"); info.Consumers != 0 {
		t.Errorf("left behind: %+v", info)
	}
}

func TestLongestWaits(t *testing.T) {
	for _, policy := range []patterns.RetryPolicy{{Attempts: 2, Min: math.MaxInt64}, {Attempts: 2, Min: math.MaxInt64 / 2, Max: math.MaxInt64}} {
		bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
			q := patterns.NewWorkQueue[order](bus, "orders")
			tries := 0
			_, err := q.Work(t.Context(), func(context.Context, order) error { tries++; return errKitchen }, patterns.Retry(policy))
			must(t, err)
			must(t, q.Send(t.Context(), order{}))
			time.Sleep(time.Hour)
			synctest.Wait()
			if info, _ := broker.Queue("orders"); tries != 1 || info.Unacked != 0 || bus.Stats().Retried != 1 {
				t.Errorf("tried %d times, %+v", tries, info)
			}
		})
	}
}

// impatientDriver cannot delay for longer than a minute.
type impatientDriver struct{ *memory.Client }

func (d impatientDriver) Features() adapters.Features {
	f := d.Client.Features()
	f.MaxDelay = time.Minute
	return f
}

func (d impatientDriver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if p.Delay > time.Minute {
		return adapters.ErrInvalid
	}
	return d.Client.Publish(ctx, p, msgs...)
}

func (d impatientDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if p.Delay > time.Minute {
		return adapters.ErrInvalid
	}
	return d.Client.PublishAsync(ctx, p, m, done)
}

// What waits for longer than that for its next try waits again and again; a dead letter that is
// parked comes back as late as it can.
func TestWaitsLongerThanTheAdaptersLongestDelay(t *testing.T) {
	for _, name := range []string{"orders", "orders.dead"} {
		synctest.Test(t, func(t *testing.T) {
			broker := memory.New()
			defer broker.Close()
			bus := patterns.New(impatientDriver{broker.Connect()})
			q := patterns.NewWorkQueue[order](bus, name)
			start := time.Now()
			var tries []time.Duration
			_, err := q.Work(t.Context(), func(context.Context, order) error {
				if tries = append(tries, time.Since(start)); len(tries) == 3 {
					return nil
				}
				return errKitchen
			}, patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: time.Hour, Max: time.Hour}))
			must(t, err)
			must(t, q.Send(t.Context(), order{}))
			wantErr(t, "a longer delay", q.Send(t.Context(), order{}, patterns.Delay(time.Minute+1)), adapters.ErrInvalid)
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			want := []time.Duration{0, time.Hour}
			if name == "orders.dead" {
				want = append(want, time.Hour+time.Minute)
			}
			if !slices.EqualFunc(tries, want, func(at, want time.Duration) bool { return want <= at && at <= want*11/10 }) {
				t.Errorf("%s: tried at %v", name, tries)
			}
			must(t, bus.Close(t.Context()))
		})
	}
}

func TestParkingNeedsDelays(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(&lackingDriver{broker.Connect(), adapters.CanDelay})
	nop := func(context.Context, order) error { return nil }
	dead := patterns.NewWorkQueue[order](bus, "orders.dead")
	wantErr(t, "Work on dead letters", second(dead.Work(bounded(t), nop, patterns.NoRetry())), adapters.ErrUnsupported)
	must(t, second(dead.Work(bounded(t), nop, patterns.AckOnReceive())))
	must(t, second(patterns.NewWorkQueue[order](bus, "orders").Work(bounded(t), nop, patterns.NoRetry())))
	must(t, bus.Close(bounded(t)))
}
