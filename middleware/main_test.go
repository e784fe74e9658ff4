package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/internal/leaktest"
	"github.com/motifmq/motif/patterns"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // what a bus logs to that is told no other
	leaktest.Main(m)
}

var errDown = errors.New("the shop is down")

// bubble runs f with virtual time, on a bus and a broker that are closed inside it.
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want one that is %v", what, err, target)
	}
}
