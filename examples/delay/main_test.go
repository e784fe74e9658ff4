package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

const want = `due: put the rice on
due: stir the rice
due: take the rice off
`

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:delay"
		other, err := adapters.Open(t.Context(), broker) // keeps the broker from one run to the next
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			began := time.Now()
			var out strings.Builder
			if err := run(t.Context(), []string{"-broker", broker}, &out); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("the last reminder came after %v", took)
			}
		}
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
