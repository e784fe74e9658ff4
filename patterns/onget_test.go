package patterns_test

import (
	"context"
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestOnGet: functions are told of each message, in turn, whatever one of them does.
func TestOnGet(t *testing.T) {
	b := memory.New()
	t.Cleanup(b.Close)
	var got []patterns.Got
	bus := patterns.New(b.Connect(),
		patterns.OnGet(func(context.Context, patterns.Got) { panic("oops") }, func(_ context.Context, g patterns.Got) { got = append(got, g) }))
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	numbers := patterns.NewWorkQueue[int](bus, "numbers")
	if err := numbers.Send(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := patterns.NewWorkQueue[string](bus, "numbers").Send(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	m, err := numbers.Get(t.Context())
	if err != nil || m.Value != 1 {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := numbers.TryGet(t.Context()); !errors.Is(err, patterns.ErrCodec) {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != m.ID || got[0].Err != nil || got[0].Began.IsZero() || !errors.Is(got[1].Err, patterns.ErrCodec) || got[1].Source.Name != "numbers" {
		t.Errorf("told of %+v", got)
	}
	if err := patterns.NewWorkQueue[int](patterns.New(b.Connect(), patterns.OnGet(nil)), "numbers").Send(t.Context(), 1); !errors.Is(err, adapters.ErrInvalid) {
		t.Errorf("a function that is nil: %v", err)
	}
}
