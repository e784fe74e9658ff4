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

// without is a driver that cannot do something.
type without struct {
	adapters.Driver
	what adapters.Ability
}

func (d without) Features() adapters.Features {
	f := d.Driver.Features()
	f.Ability &^= d.what
	return f
}

// Where the broker gives no single messages, there is nothing to clear with.
func TestClearNeedsNothing(t *testing.T) {
	d, err := adapters.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	bus, closeBus := New(t.Context(), without{d, adapters.CanGet})
	if err := Clear(t.Context(), patterns.NewWorkQueue[int](bus, "numbers")); err != nil {
		t.Error(err)
	}
	if err := closeBus(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesBrokers(t *testing.T) {
	opts := Options{Broker: "memory:", Needs: adapters.CanGet | 1<<60}
	_, _, err := opts.Open(t.Context())
	if want := "this example cannot run there: motif: adapter memory does not support ability(60)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
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
