package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

const (
	broker = "memory:boundedqueue"

	wantHold = `produced 20: accepted 5, held back 15, refused 0
consumed 20, lost 0
nothing left: motif: queue is empty
`
	wantRefuse = `produced 20: accepted 5, held back 0, refused 15
consumed 5, lost 0
nothing left: motif: queue is empty
`
)

func TestBoundedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other, err := adapters.Open(t.Context(), broker) // keeps the broker from one run to the next
		if err != nil {
			t.Fatal(err)
		}
		runOnce(t, wantHold)
		runOnce(t, wantRefuse, "-full", "refuse")

		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Millisecond) // with producers held back
		defer cancel()
		if err := run(ctx, []string{"-broker", broker}, t.Output()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted: %v", err)
		}
		runOnce(t, wantHold, "-full", "hold")
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func runOnce(t *testing.T, want string, args ...string) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), append(args, "-broker", broker), &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != want {
		t.Errorf("%q got:\n%s\nwant:\n%s", args, got, want)
	}
}

func TestUnknownChoice(t *testing.T) {
	if err := run(t.Context(), []string{"-full", "panic"}, t.Output()); err == nil || !strings.Contains(err.Error(), "hold or refuse") {
		t.Errorf("-full panic: %v", err)
	}
}
