package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

const want = `receipt: {Order:order of ramen Cents:1450}
dead letter: {Dish:caviar Cents:140000}, card declined
`

func TestTesting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:testing"
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
