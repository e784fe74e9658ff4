package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

const want = `acks.on-receive    sent 5, crashed 1, done 4, lost 1
acks.after-handler sent 5, crashed 1, done 5, lost 0
`

func TestAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:acks"
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
