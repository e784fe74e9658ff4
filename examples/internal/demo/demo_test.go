package demo

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

func TestOpenRefusesRoles(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // "": no error
	}{
		{"", ""},
		{"-role all", ""},
		{"-role send", "give its URL with -broker"},
		{"-role send -broker memory:shared", "give its URL with -broker"},
		{"-role cook", "there is no role"},
		{"-role cook -broker nosuch:", "there is no role"},
		{"-role send -broker nosuch:", "no adapter"}, // the role is fine
	} {
		var opts Options
		if err := Flags("test", &opts, "all", "send").Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		_, closeBus, err := opts.Open(t.Context())
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.args, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v, want it to say: %s", c.args, err, c.want)
		}
		if err == nil {
			if err := closeBus(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestClear(t *testing.T) {
	ctx := t.Context()
	var opts Options
	if err := Flags("test", &opts).Parse(nil); err != nil {
		t.Fatal(err)
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := closeBus(); err != nil {
			t.Error(err)
		}
	}()

	numbers := patterns.NewWorkQueue[int](bus, "numbers")
	words := patterns.NewWorkQueue[string](bus, "numbers") // the same queue, to put in what is no int
	if err := errors.Join(numbers.Send(ctx, 1), words.Send(ctx, "two"), numbers.Send(ctx, 3)); err != nil {
		t.Fatal(err)
	}
	if err := Clear(ctx, numbers); err != nil {
		t.Fatal(err)
	}
	if _, err := numbers.TryGet(ctx); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("after Clear: %v, want ErrEmpty", err)
	}
}

func TestCollectEndsWithCtx(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	values := make(chan int, 1)
	values <- 1
	cancel()
	got, err := Collect(ctx, values, 2)
	if !errors.Is(err, context.Canceled) || len(got) > 1 {
		t.Errorf("got %v, %v", got, err)
	}
}
