package kit

import (
	"context"
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters"
)

func TestCopies(t *testing.T) {
	type copied struct {
		gone bool
		err  error
	}
	stored, gone, refused, unknown := copied{}, copied{gone: true}, copied{err: adapters.ErrNacked}, copied{err: adapters.ErrUnconfirmed}
	unavailable, denied := copied{err: adapters.ErrUnavailable}, copied{err: adapters.ErrAccess}
	for name, tt := range map[string]struct {
		optional bool // not mandatory
		copies   []copied
		want     error
		maybe    bool // some queues may have it, though want says that none has
	}{
		"stored":                    {copies: []copied{stored, stored}},
		"one queue is gone":         {copies: []copied{gone, stored}},
		"all are gone":              {copies: []copied{gone, gone}, want: adapters.ErrUnroutable},
		"all are gone, and may be":  {copies: []copied{gone, gone}, optional: true},
		"refused by one":            {copies: []copied{stored, refused, stored}, want: adapters.ErrNacked},
		"refused, gone":             {copies: []copied{refused, gone}, want: adapters.ErrNacked},
		"refused, unknown, refused": {copies: []copied{refused, unknown, refused}, want: adapters.ErrUnconfirmed},
		"stored, unavailable":       {copies: []copied{stored, unavailable}, want: adapters.ErrUnavailable, maybe: true},
		"denied, gone, stored":      {copies: []copied{denied, gone, stored}, want: adapters.ErrAccess, maybe: true},
		"unavailable, gone, denied": {copies: []copied{unavailable, gone, denied}, want: adapters.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			called := 0
			var got error
			c := NewCopies(len(tt.copies), !tt.optional, func(err error) { called++; got = err })
			for i, one := range tt.copies {
				if last := i == len(tt.copies)-1; c.Resolve(one.gone, one.err) != last || called > 0 != last {
					t.Errorf("copy %d: done was called %d times", i, called)
				}
			}
			if called != 1 || !errors.Is(got, tt.want) || got != nil && tt.want == nil {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if maybe := errors.Is(got, adapters.ErrUnconfirmed); maybe != (tt.maybe || tt.want == adapters.ErrUnconfirmed) { //nolint:errorlint // the very same
				t.Errorf("%v: it says that the message may be stored: %t", got, maybe)
			}
		})
	}
}

func TestTasksCheck(t *testing.T) {
	tasks := NewTasks()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tasks.Check(t.Context(), "test: publish"); err != nil || tasks.IsClosed() {
		t.Errorf("open: %v", err)
	}
	err := tasks.Check(ended, "test: publish")
	if !errors.Is(err, context.Canceled) || err.Error() != "test: publish: context canceled" {
		t.Errorf("ended: %v", err)
	}
	failed := errors.New("failed")
	if got := tasks.Explain(t.Context(), failed); got != failed { //nolint:errorlint // the very same
		t.Errorf("a failure is explained as %v", got)
	}
	if err := tasks.Explain(ended, failed); !errors.Is(err, failed) || !errors.Is(err, context.Canceled) {
		t.Errorf("a failure for which ctx is the reason: %v", err)
	}
	if got := tasks.Explain(ended, err); got != err { //nolint:errorlint // the very same
		t.Errorf("what says that ctx ended: %v", got)
	}
	tasks.Close()
	if err := tasks.Check(ended, "test: publish"); !errors.Is(err, adapters.ErrClosed) || !tasks.IsClosed() {
		t.Errorf("closed: %v", err)
	}
	if err := tasks.Explain(ended, failed); !errors.Is(err, adapters.ErrClosed) || errors.Is(err, failed) {
		t.Errorf("a failure of what is closed: %v", err)
	}
	if err := tasks.Explain(ended, nil); err != nil {
		t.Errorf("no failure: %v", err)
	}
}
