package watermill_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/patterns"
)

// onGoChannel runs test in a bubble with a bus on watermill's gochannel.
func onGoChannel(t *testing.T, test func(t *testing.T, bus *patterns.Bus)) {
	synctest.Test(t, func(t *testing.T) {
		pair := gochannel.NewGoChannel(gochannel.Config{}, nil)
		bus := patterns.New(newDriver(t, watermill.Config{Adapter: "gochannel", Publisher: pair, Subscriber: pair, Fanout: pair}))
		test(t, bus)
		if err := bus.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

var (
	inProcess = patterns.Retry(patterns.RetryPolicy{InProcess: true})
	errNotYet = errors.New("not yet")
)

func TestWorkQueueOnAPair(t *testing.T) {
	onGoChannel(t, func(t *testing.T, bus *patterns.Bus) {
		orders := patterns.NewWorkQueue[string](bus, "orders", patterns.NoDeadLetter())
		done := make(chan patterns.Delivery, 10)
		var dropped atomic.Int32
		sub, err := orders.Work(t.Context(), func(ctx context.Context, order string) error {
			d, _ := patterns.DeliveryFrom(ctx)
			switch {
			case order == "hopeless":
				return patterns.Reject(errNotYet)
			case order == "slow" && d.Attempt < 3:
				return errNotYet
			}
			done <- d
			return nil
		}, inProcess, patterns.Workers(2), patterns.OnDrop(func(patterns.Delivery, error) { dropped.Add(1) }))
		if err != nil {
			t.Fatal(err)
		}
		if err := orders.Send(t.Context(), "slow", patterns.Header("h", "v")); err != nil {
			t.Fatal(err)
		}
		if err := orders.SendBatch(t.Context(), []string{"hopeless", "quick"}); err != nil {
			t.Fatal(err)
		}
		quick, slow := <-done, <-done
		if quick.Attempt != 1 || slow.Attempt != 3 || slow.Headers["h"] != "v" || len(slow.Headers) != 1 || slow.ContentType != "application/json" {
			t.Errorf("quick: %+v, slow: %+v", quick, slow)
		}
		if err := sub.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := dropped.Load(); n != 1 {
			t.Errorf("%d dropped, want the hopeless one", n)
		}
	})
}

// TestPatternsSayWhatAPairLacks: when they are set to work, not when the first
// message fails.
func TestPatternsSayWhatAPairLacks(t *testing.T) {
	onGoChannel(t, func(t *testing.T, bus *patterns.Bus) {
		never := func(context.Context, string) error { return nil }
		for name, c := range map[string]struct {
			missing adapters.Ability
			try     func() error
		}{
			"dead letters, which are the default": {adapters.CanDeadLetter, func() error {
				_, err := patterns.NewWorkQueue[string](bus, "q").Work(t.Context(), never, inProcess)
				return err
			}},
			"retries, which wait at the broker by default": {adapters.CanDelay, func() error {
				_, err := patterns.NewWorkQueue[string](bus, "q", patterns.NoDeadLetter()).Work(t.Context(), never)
				return err
			}},
			"groups": {adapters.CanGroup, func() error {
				_, err := patterns.NewPubSub[string](bus, "p").Subscribe(t.Context(), never, patterns.Group("g"), patterns.NoDeadLetter(), inProcess)
				return err
			}},
			"routing": {adapters.CanRoute, func() error {
				return patterns.NewRouted[string](bus, "r").Publish(t.Context(), "key", "v")
			}},
			"delay": {adapters.CanDelay, func() error {
				return patterns.NewPubSub[string](bus, "p").Publish(t.Context(), "v", patterns.Delay(time.Second))
			}},
		} {
			var u *adapters.UnsupportedError
			if err := c.try(); !errors.As(err, &u) || u.Adapter != "gochannel" || !u.Missing.Has(c.missing) {
				t.Errorf("%s: %v, want gochannel to lack %v", name, err, c.missing)
			}
		}
	})
}

func TestPubSubOnAPair(t *testing.T) {
	onGoChannel(t, func(t *testing.T, bus *patterns.Bus) {
		placed := patterns.NewPubSub[string](bus, "placed")
		got := make(chan string, 10)
		for _, name := range []string{"a", "b"} {
			_, err := placed.Subscribe(t.Context(), func(_ context.Context, order string) error {
				got <- name + order
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := placed.Publish(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		if both := []string{<-got, <-got}; !slices.Contains(both, "a1") || !slices.Contains(both, "b1") {
			t.Errorf("got %v, want a copy each", both)
		}
	})
}

// TestShutdownGivesBack: a handler that is interrupted does not lose the
// message, as far as the pair goes.
func TestShutdownGivesBack(t *testing.T) {
	s := newFakeSubscriber("a")
	s.queue <- messages("b")[0]
	bus := patterns.New(newDriver(t, watermill.Config{Subscriber: s}), patterns.WithCodec(patterns.Bytes{}))
	started := make(chan struct{})
	queue := patterns.NewWorkQueue[string](bus, "q", patterns.NoDeadLetter())
	_, err := queue.Work(t.Context(), func(ctx context.Context, _ string) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}, inProcess, patterns.DrainTimeout(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	<-started
	if err := bus.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.running.Wait()
	if len(s.queue) != 2 {
		t.Errorf("%d messages are left, want both", len(s.queue))
	}
}
