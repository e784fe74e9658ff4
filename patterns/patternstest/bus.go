package patternstest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// NewBus returns a bus, and the recorder of what it publishes. Driver is the broker to use; with
// nil it is an in-process one of the test's own. The bus logs to the test's output, unless opts say
// otherwise. It is closed when the test ends, which fails if that fails.
//
// Inside a testing/synctest bubble call it with the bubble's t.
func NewBus(t testing.TB, driver adapters.Driver, opts ...patterns.BusOption) (*patterns.Bus, *Recorder) {
	t.Helper()
	if driver == nil {
		driver = memory.New().Connect()
	}
	r := new(Recorder)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	r.bus = patterns.New(driver, append([]patterns.BusOption{patterns.WithLogger(log), patterns.OnPublish(r.publish)}, opts...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), closeTimeout)
		defer cancel()
		if err := r.bus.Close(ctx); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
	})
	return r.bus, r
}

// closeTimeout is how long handlers may take once the test is over.
const closeTimeout = 10 * time.Second

// idler is a driver that can wait until nothing is in flight, as that of the in-process broker.
type idler interface {
	WaitIdle(ctx context.Context) error
}

// WaitIdle waits until no message is in flight: none is in hand of a handler, none waits in a queue
// that has a consumer, and none waits for its delay, as one that is tried again does. What is in a
// queue that nobody consumes is not in flight: dead letters, and what the test itself takes later.
// It counts what the broker and the buses hold, and measures no time: in a testing/synctest bubble
// it returns at the very moment, however many hours of retries that takes.
//
// Give it all buses whose handlers may be at work. What the test's own goroutines are about to
// publish is not known to it. If ctx ends first, the error says what is in flight, and wraps
// ctx.Err().
//
// It takes a driver that can tell, which only that of the in-process broker (package
// adapters/memory) can: for others the error wraps [adapters.ErrUnsupported].
func WaitIdle(ctx context.Context, buses ...*patterns.Bus) error {
	for {
		for _, bus := range buses {
			driver, ok := bus.Driver().(idler)
			if !ok {
				return notIdler(bus)
			}
			if err := driver.WaitIdle(ctx); err != nil {
				return err
			}
		}
		busy := inHand(buses)
		if busy == 0 {
			return nil
		}
		if err := pause(ctx); err != nil { // acknowledged on receipt, and still handled
			return errors.Join(errHandled, err)
		}
	}
}

var errHandled = errors.New("patternstest: messages that were acknowledged on receipt are still handled")

func notIdler(bus *patterns.Bus) error {
	name := "no driver"
	if d := bus.Driver(); d != nil {
		name = d.Features().Adapter
	}
	return &unsupportedError{name}
}

// unsupportedError is for an adapter that cannot tell what is in flight.
type unsupportedError struct{ adapter string }

func (e *unsupportedError) Error() string {
	return "patternstest: " + e.adapter + " cannot tell when nothing is in flight; the in-process broker can"
}

func (e *unsupportedError) Is(target error) bool { return target == adapters.ErrUnsupported }

// inHand counts what handlers are at work on, which the broker need not know of: what is
// acknowledged on receipt.
func inHand(buses []*patterns.Bus) (n int) {
	for _, bus := range buses {
		for _, s := range bus.Health().Subscriptions {
			n += s.InHand
		}
	}
	return n
}

// pause lets others run before one looks again.
func pause(ctx context.Context) error {
	select {
	case <-time.After(time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
