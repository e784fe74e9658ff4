package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

const (
	broker = "memory:fairdispatch"

	want = `prefetch 20: slow handled 10, fast 10, in 2s
prefetch  1: slow handled  1, fast 19, in 200ms
`
)

func TestFairDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := keep(t)
		runOnce(t)
		runOnce(t)
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Ctrl-C finishes what is in hand and gives back the rest, of which the next
// run is none the wiser.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := keep(t)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // the slow one has begun its third
		defer cancel()
		began := time.Now()
		if err := run(ctx, []string{"-broker", broker}, t.Output()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted: %v", err)
		}
		if took := time.Since(began); took != 600*time.Millisecond {
			t.Errorf("interrupted after 500ms, it ended after %v; the third takes until 600ms", took)
		}
		// Slow handled 3 and fast 10, maybe 11: when slow stops first, what is
		// dealt to it goes to fast.
		q, _ := other.Broker().Queue("fairdispatch")
		if q.Ready < 6 || q.Ready > 7 || q.Unacked > 0 || q.Consumers > 0 {
			t.Errorf("6 or 7 of 20 are to be left, but the queue is %+v", q)
		}
		runOnce(t)
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// keep keeps the broker from one run to the next.
func keep(t *testing.T) *memory.Client {
	t.Helper()
	other, err := adapters.Open(t.Context(), broker)
	if err != nil {
		t.Fatal(err)
	}
	return other.(*memory.Client)
}

func runOnce(t *testing.T) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), []string{"-broker", broker}, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
