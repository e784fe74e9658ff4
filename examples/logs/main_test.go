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

const want = `file: 1 starting
file: 2 ready
file: 3 busy
file: 4 stopping
late: 3 busy
late: 4 stopping
screen: 1 starting
screen: 2 ready
screen: 3 busy
screen: 4 stopping
`

// remote is a broker that is not the example's own, as a real one is.
var remote *memory.Broker

func init() {
	adapters.Register("remote", func(context.Context, *url.URL) (adapters.Driver, error) { return remote.Connect(), nil })
}

func TestLogs(t *testing.T) {
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

// In roles, one process listens until Ctrl-C, and another publishes.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote = memory.New()
		ctx, interrupt := context.WithCancel(t.Context())
		var out strings.Builder
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, []string{"-broker", "remote:", "-role", "listen"}, &out) }()
		synctest.Wait()
		runOnce(t, "", "-role", "publish")
		synctest.Wait()
		interrupt()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got, want := out.String(), "1 starting\n2 ready\n3 busy\n4 stopping\n"; got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestRoleNeedsRealBroker(t *testing.T) {
	if err := run(t.Context(), []string{"-role", "listen"}, t.Output()); err == nil || !strings.Contains(err.Error(), "-broker") {
		t.Errorf("-role listen in process: %v", err)
	}
}
