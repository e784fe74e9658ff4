package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type valueKey struct{}

// A publish whose ctx has no deadline does not hang where the broker does: the error says why it
// ended. One with a deadline has that.
func TestPublishesEndWithoutADeadline(t *testing.T) {
	withValue := context.WithValue(context.Background(), valueKey{}, 1)
	ways := map[string]func(ctx context.Context, bus *patterns.Bus) error{
		"Send": func(ctx context.Context, bus *patterns.Bus) error {
			return patterns.NewWorkQueue[order](bus, "orders").Send(ctx, order{})
		},
		"SendBatch": func(ctx context.Context, bus *patterns.Bus) error {
			return patterns.NewWorkQueue[order](bus, "orders").SendBatch(ctx, []order{{}, {}})
		},
		"Publish": func(ctx context.Context, bus *patterns.Bus) error {
			return patterns.NewTopic[order](bus, "news").Publish(ctx, "a", order{})
		},
		"WaitForRoom": func(ctx context.Context, bus *patterns.Bus) error {
			return patterns.NewWorkQueue[order](bus, "orders", patterns.MaxLength(1)).Send(ctx, order{}, patterns.WaitForRoom())
		},
		"SendAsync": func(ctx context.Context, bus *patterns.Bus) error {
			return second(patterns.NewWorkQueue[order](bus, "orders").SendAsync(ctx, order{}))
		},
	}
	for name, publish := range ways {
		for which, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": nil, "with a value": withValue} {
			for _, limit := range []time.Duration{30 * time.Second, time.Minute} {
				t.Run(name+", "+which+", "+limit.String(), func(t *testing.T) {
					var opts []patterns.BusOption
					if limit != 30*time.Second {
						opts = append(opts, patterns.PublishTimeout(limit))
					}
					synctest.Test(t, func(t *testing.T) {
						ctx := ctx
						if which == "cancellable" { // of the bubble
							var stop context.CancelFunc
							ctx, stop = context.WithCancel(context.Background())
							defer stop()
						}
						broker := memory.New()
						defer broker.Close()
						bus := patterns.New(&hangingDriver{broker.Connect()}, opts...)
						for range 3 { // the first ones of a ctx have another timer than later ones
							start := time.Now()
							err := publish(ctx, bus)
							if took := time.Since(start); took < limit || took > limit+time.Second {
								t.Errorf("ended after %v", took)
							}
							if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), limit.String()+", the PublishTimeout") {
								t.Errorf("got %v", err)
							}
						}
						start := time.Now()
						brief, stop := context.WithTimeout(ctx, time.Second)
						defer stop()
						err := publish(brief, bus)
						if took := time.Since(start); took != time.Second || !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "PublishTimeout") {
							t.Errorf("with a deadline of its own: %v after %v", err, took)
						}
						must(t, bus.Close(t.Context()))
					})
				})
			}
		}
	}
}

// hangingDriver takes no publish before its ctx ends.
type hangingDriver struct{ *memory.Client }

func (d *hangingDriver) Publish(ctx context.Context, _ adapters.Publication, _ ...*message.Message) error {
	<-ctx.Done()
	return fmt.Errorf("test: %w: %w", adapters.ErrUnavailable, ctx.Err())
}

func (d *hangingDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, _ func(error)) error {
	return d.Publish(ctx, p, m)
}

// forgetfulDriver never says what became of a publish.
type forgetfulDriver struct{ *memory.Client }

func (d *forgetfulDriver) PublishAsync(context.Context, adapters.Publication, *message.Message, func(error)) error {
	return nil
}

// No receipt is waited for without end, either.
func TestWaitingForAReceiptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(&forgetfulDriver{broker.Connect()})
		r, err := patterns.NewWorkQueue[order](bus, "orders").SendAsync(t.Context(), order{})
		must(t, err)
		start := time.Now()
		err = r.Wait(context.Background())
		if time.Since(start) < 30*time.Second || !errors.Is(err, adapters.ErrUnconfirmed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		must(t, bus.Close(t.Context()))
	})
}

// What a caller's ctx carries reaches the driver, and its end ends a publish.
func TestPublishesKeepTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(&hangingDriver{broker.Connect()})
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(errKitchen) })
		start := time.Now()
		err := patterns.NewWorkQueue[order](bus, "orders").Send(ctx, order{})
		if took := time.Since(start); took != time.Second || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v after %v", err, took)
		}
		must(t, bus.Close(t.Context()))
	})
}
