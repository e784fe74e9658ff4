package main

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

const (
	wantCalls = `fib(30) = 832040
20 calls at once: [0 1 1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 1597 2584 4181]
call RPC "fib": remote error (negative): negative
`
	want = "no server yet: motif: no server\n" + wantCalls + `the caller gave up
the server stopped working on it
`
)

// remote is a broker that is not the example's own, as a real one is.
var remote *memory.Broker

func init() {
	adapters.Register("remote", func(context.Context, *url.URL) (adapters.Driver, error) { return remote.Connect(), nil })
}

func TestFib(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote = memory.New()
		runOnce(t, want)
		runOnce(t, want)
	})
}

func runOnce(t *testing.T, want string, args ...string) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), append([]string{"-broker", "remote:"}, args...), &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != want {
		t.Errorf("%q got:\n%s\nwant:\n%s", args, got, want)
	}
}

// In roles, one process serves until Ctrl-C, and another calls.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote = memory.New()
		ctx, interrupt := context.WithCancel(t.Context())
		var out strings.Builder
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, []string{"-broker", "remote:", "-role", "serve"}, &out) }()
		synctest.Wait()
		runOnce(t, wantCalls, "-role", "call")
		synctest.Wait()
		interrupt()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := out.String(); got != "" {
			t.Errorf("the server printed: %s", got)
		}
	})
}

func TestRoleNeedsRealBroker(t *testing.T) {
	if err := run(t.Context(), []string{"-role", "serve"}, t.Output()); err == nil || !strings.Contains(err.Error(), "-broker") {
		t.Errorf("-role serve in process: %v", err)
	}
}
