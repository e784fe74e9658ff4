package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
)

// silent is standard input to which nothing comes, until it is over.
type silent struct {
	read func() // is called once it is read from
	over <-chan struct{}
}

func (s silent) Read([]byte) (int, error) {
	s.read()
	<-s.over
	return 0, context.Canceled
}

// TestInputEndsWithTheCommand: one Ctrl-C ends a command that waits for its standard input.
func TestInputEndsWithTheCommand(t *testing.T) {
	s := newSite(t)
	s.three(t)
	t.Setenv("VISUAL", "true")
	for _, args := range []string{"send orders", "call double", "dead import orders.dead", "dead edit orders.dead a", "topology plan -"} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs bytes.Buffer
		code := run(ctx, strings.Fields(args), silent{sync.OnceFunc(cancel), t.Context().Done()}, &out, &errs)
		if code != exitInterrupted {
			t.Errorf("motif %s: exit %d, want %d:\n%s%s", args, code, exitInterrupted, &out, &errs)
		}
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 3 {
		t.Errorf("left %q", got)
	}
}
