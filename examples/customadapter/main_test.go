//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const ordered = `ordered: pad thai
ordered: fugu
ordered: laksa
`

const cooked = `with retries: work on work queue "orders": motif: adapter dir does not support delay
cooked: pad thai
dropped: nobody here may prepare it
cooked: laksa
`

func TestCustomadapter(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), ordered+cooked; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// One run sends, another one works until its ctx ends.
func TestRoles(t *testing.T) {
	broker := "dir:" + t.TempDir()
	var out strings.Builder
	if err := run(t.Context(), []string{"-broker", broker, "-role", "send"}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != ordered {
		t.Errorf("send got:\n%s\nwant:\n%s", out.String(), ordered)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	worker := &until{last: "cooked: laksa\n", then: stop}
	if err := run(ctx, []string{"-broker", broker, "-role", "work"}, worker); err != nil {
		t.Fatal(err)
	}
	if got := worker.String(); got != cooked {
		t.Errorf("work got:\n%s\nwant:\n%s", got, cooked)
	}
}

// until calls a function, as Ctrl-C would, once a line was printed.
type until struct {
	strings.Builder
	last string
	then func()
}

func (u *until) Write(b []byte) (int, error) {
	if string(b) == u.last {
		defer u.then()
	}
	return u.Builder.Write(b)
}

func TestURLWithoutDirectory(t *testing.T) {
	for _, args := range [][]string{{"-role", "send"}, {"-broker", "dir:spool"}, {"-broker", "dir://spool"}, {"-broker", "dir://var/spool"}} {
		if err := run(t.Context(), args, t.Output()); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
