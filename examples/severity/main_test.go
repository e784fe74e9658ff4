package main

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

const (
	wantNobody = "debug, mandatory: nobody asked for it, motif: unroutable\n"
	want       = wantNobody + `file:   error: disk is full
screen: error: disk is full
screen: info: listening on :8080
screen: warning: disk is 90% full
`
)

// remote is a broker that is not the example's own, as a real one is.
var remote *memory.Broker

func init() {
	adapters.Register("remote", func(context.Context, *url.URL) (adapters.Driver, error) { return remote.Connect(), nil })
}

func TestSeverity(t *testing.T) {
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
		var out lockedBuilder
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, []string{"-broker", "remote:", "-role", "listen"}, &out) }()
		synctest.Wait()
		runOnce(t, wantNobody, "-role", "publish")
		synctest.Wait()
		interrupt()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		lines := strings.SplitAfter(out.String(), "\n")
		slices.Sort(lines) // the listeners run side by side
		if got := wantNobody + strings.Join(lines, ""); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

// lockedBuilder takes whole lines from several goroutines, as a terminal does.
type lockedBuilder struct {
	mu sync.Mutex
	strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func TestRoleNeedsRealBroker(t *testing.T) {
	if err := run(t.Context(), []string{"-role", "listen"}, t.Output()); err == nil || !strings.Contains(err.Error(), "-broker") {
		t.Errorf("-role listen in process: %v", err)
	}
}
