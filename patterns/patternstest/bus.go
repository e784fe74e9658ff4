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

// idler is a driver that can wait until nothing is in flight.
type idler interface {
	// WaitIdle waits until nothing is in flight for the driver and others, which may be of the same
	// broker. What is in one of queues is in flight, although nobody may consume it at the moment.
	WaitIdle(ctx context.Context, queues []string, others ...adapters.Driver) error
}

// WaitIdle waits until no message is in flight: none is in hand of a handler, none waits in a queue
// that one of the buses consumes, and none waits for its delay, as one that is tried again does.
// What is in a queue that nobody consumes is not in flight: dead letters, and what the test itself
// takes later, nor is what is delayed to such a queue. It counts what the broker and the buses
// hold, and measures no time: in a testing/synctest bubble it returns at the very moment, however
// many hours of retries that takes.
//
// Give it all buses whose handlers may be at work. What the test's own goroutines are about to
// publish is not known to it. If ctx ends first, the error says what is in flight, and wraps
// ctx.Err().
//
// On the in-process broker (package adapters/memory) whatever was sent counts, by whichever bus. On
// RabbitMQ (adapters/amqp) what these buses consume, and have delayed, does; anybody else who
// consumes their queues counts as having something in hand. See WaitIdle of its Driver for what it
// cannot know. Another driver needs a method like theirs, WaitIdle(ctx, queues, others...): without
// one the error wraps [adapters.ErrUnsupported].
func WaitIdle(ctx context.Context, buses ...*patterns.Bus) error {
	drivers := make([]adapters.Driver, len(buses))
	for i, bus := range buses {
		if drivers[i] = bus.Driver(); !isIdler(drivers[i]) {
			return notIdler(bus)
		}
	}
	for {
		before := look(buses)
		for _, driver := range drivers {
			if err := driver.(idler).WaitIdle(ctx, before.queues, drivers...); err != nil {
				return err
			}
		}
		after := look(buses)
		if after.inHand == 0 && after.last.Equal(before.last) {
			return nil
		}
		// Something is, or was meanwhile, handled that the broker does not know of any more.
		if after.inHand > 0 {
			if err := pause(ctx); err != nil {
				return errors.Join(errHandled, err)
			}
		}
	}
}

func isIdler(d adapters.Driver) bool {
	_, ok := d.(idler)
	return ok
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
	return "patternstest: " + e.adapter + " cannot tell when nothing is in flight; the in-process broker and RabbitMQ can"
}

func (e *unsupportedError) Is(target error) bool { return target == adapters.ErrUnsupported }

// work is what buses are doing.
type work struct {
	inHand int       // what handlers are at work on, which the broker need not know of: it may be acknowledged
	last   time.Time // when a worker received the last message
	queues []string  // that they consume, also while a gate lets nothing be fetched
}

func look(buses []*patterns.Bus) (w work) {
	for _, bus := range buses {
		for _, s := range bus.Health().Subscriptions {
			w.inHand += s.InHand
			if s.LastMessage.After(w.last) {
				w.last = s.LastMessage
			}
			if s.State == patterns.StateRunning && s.Queue != "" {
				w.queues = append(w.queues, s.Queue)
			}
		}
	}
	return w
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
