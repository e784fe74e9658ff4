package main

import (
	"context"
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/patterns"
)

// TestDeadLettersOnJetStream: they are listed and replayed as on any other broker.
func TestDeadLettersOnJetStream(t *testing.T) {
	d, err := adapters.Open(t.Context(), "jetstream://"+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(d)
	orders := patterns.NewWorkQueue[int](bus, "orders")
	fixed := make(chan struct{})
	const letters = 40
	handled := make(chan int, letters)
	_, err = orders.Work(t.Context(), func(_ context.Context, n int) error {
		select {
		case <-fixed:
			handled <- n
			return nil
		default:
			return patterns.Reject(errors.New("not yet"))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range letters {
		if err := orders.Send(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	dead := deadletters.New(d, orders.Dead().Name())
	var found deadletters.Look
	for len(found.Letters) < letters && t.Context().Err() == nil {
		if found, err = dead.List(t.Context(), deadletters.Filter{}, adapters.MaxBrowse); err != nil {
			t.Fatal(err)
		}
	}
	if reason := found.Letters[0].Reason(); reason != "not yet" {
		t.Errorf("the reason is %q", reason)
	}
	close(fixed)
	report, err := dead.Replay(t.Context(), deadletters.ReplayOptions{})
	if err != nil || report.Sent != letters {
		t.Fatalf("replayed %+v, %v", report, err)
	}
	seen := map[int]bool{}
	for range letters {
		seen[<-handled] = true
	}
	left, err := d.(adapters.Inspector).Inspect(t.Context(), orders.Dead().Name())
	if len(seen) != letters || err != nil || left.Ready != 0 || left.Unacked != 0 {
		t.Errorf("%d of %d handled; left: %+v, %v", len(seen), letters, left, err)
	}
	if err := bus.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
