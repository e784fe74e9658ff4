package patterns_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/internal/leaktest"
	"github.com/motifmq/motif/patterns"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // what a bus logs to that is told no other
	leaktest.Main(m)
}

type order struct {
	ID   int    `json:"id"`
	Dish string `json:"dish"`
}

var errKitchen = errors.New("the kitchen is on fire")

// within bounds every wait of a test that is not in a bubble.
const within = time.Minute

// newBus returns a bus on a broker of its own, closed when the test ends.
func newBus(t testing.TB, opts ...patterns.BusOption) (*patterns.Bus, *memory.Broker) {
	t.Helper()
	broker := memory.New()
	bus := patterns.New(broker.Connect(), opts...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
		broker.Close()
	})
	return bus, broker
}

// bubble runs f with virtual time and a bus that is closed inside it.
func bubble(t *testing.T, f func(t *testing.T, bus *patterns.Bus, broker *memory.Broker), opts ...patterns.BusOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		bus := patterns.New(broker.Connect(), opts...)
		defer broker.Close()
		defer func() {
			if err := bus.Close(context.Background()); err != nil {
				t.Errorf("closing the bus: %v", err)
			}
		}()
		f(t, bus, broker)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want one that is %v", what, err, target)
	}
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// journal collects what handlers saw, safely.
type journal[T any] struct {
	mu  sync.Mutex
	all []T
	got chan struct{}
}

func newJournal[T any]() *journal[T] { return &journal[T]{got: make(chan struct{}, 1)} }

func (l *journal[T]) add(v T) {
	l.mu.Lock()
	l.all = append(l.all, v)
	l.mu.Unlock()
	select {
	case l.got <- struct{}{}:
	default:
	}
}

func (l *journal[T]) snapshot() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.all...)
}

// await waits until there are n entries and returns them all.
func (l *journal[T]) await(t testing.TB, n int) []T {
	t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		if all := l.snapshot(); len(all) >= n {
			return all
		}
		select {
		case <-l.got:
		case <-timeout.C:
			t.Fatalf("%d of %d arrived: %v", len(l.snapshot()), n, l.snapshot())
		}
	}
}
