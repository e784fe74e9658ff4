// Package demotest is what the tests of the examples share.
package demotest

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

// Twice runs an example twice on one broker in the process, in virtual time, and fails if it does
// not print what is wanted each time: what the first run leaves behind must not disturb the second.
func Twice(t *testing.T, run func(ctx context.Context, args []string, out io.Writer) error, want string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:demotest"
		other, err := adapters.Open(t.Context(), broker) // keeps the broker from one run to the next
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var out strings.Builder
			if err := run(t.Context(), []string{"-broker", broker}, &out); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		}
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
