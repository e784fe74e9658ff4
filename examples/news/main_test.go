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

const want = `usa.#                  got: usa, usa.weather, usa.ne
*.weather              got: usa.weather, europe.weather
#.ne                   got: usa.ne, europe.ne, ne
usa.# *.weather #.ne   got: usa, usa.weather, usa.ne, europe.weather, europe.ne, ne
`

// remote is a broker that is not the example's own, as a real one is.
var remote *memory.Broker

func init() {
	adapters.Register("remote", func(context.Context, *url.URL) (adapters.Driver, error) { return remote.Connect(), nil })
}

func TestNews(t *testing.T) {
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
		go func() {
			ended <- run(ctx, []string{"-broker", "remote:", "-role", "read", "#.weather", "asia.*"}, &out)
		}()
		synctest.Wait()
		runOnce(t, "", "-role", "publish")
		synctest.Wait()
		interrupt()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got, want := out.String(), "usa.weather\neurope.weather\neurope.north.weather\nasia.sports\n"; got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestRoleNeedsRealBroker(t *testing.T) {
	if err := run(t.Context(), []string{"-role", "read"}, t.Output()); err == nil || !strings.Contains(err.Error(), "-broker") {
		t.Errorf("-role read in process: %v", err)
	}
}
