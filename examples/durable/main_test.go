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

const want = `sent: invoice 1
sent: invoice 2
sent: cache hint (transient)
restarted the broker
still there: invoice 1
still there: invoice 2
declaring it again with a time to live: refused, motif: exists with other properties
`

// remote is a broker that is not the example's own, as a real one is.
var remote *memory.Broker

func init() {
	adapters.Register("remote", func(context.Context, *url.URL) (adapters.Driver, error) { return remote.Connect(), nil })
	adapters.Register("foreign", func(context.Context, *url.URL) (adapters.Driver, error) {
		return struct{ adapters.Driver }{memory.New().Connect()}, nil
	})
}

func TestDurable(t *testing.T) {
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

// In roles, somebody else restarts the broker in between.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote = memory.New()
		sent, checked, _ := strings.Cut(want, "restarted the broker\n")
		runOnce(t, sent, "-role", "send")
		runOnce(t, sent, "-role", "send") // begins anew
		remote.Restart()
		runOnce(t, checked, "-role", "check")
	})
}

// On a broker that the program cannot restart, the default role says what to do.
func TestForeignBroker(t *testing.T) {
	err := run(t.Context(), []string{"-broker", "foreign:"}, t.Output())
	if err == nil || !strings.Contains(err.Error(), "-role send") {
		t.Errorf("all roles on a foreign broker: %v", err)
	}
}

func TestRoleNeedsRealBroker(t *testing.T) {
	if err := run(t.Context(), []string{"-role", "send"}, t.Output()); err == nil || !strings.Contains(err.Error(), "-broker") {
		t.Errorf("-role send in process: %v", err)
	}
}
