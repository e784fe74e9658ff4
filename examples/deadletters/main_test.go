package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

const want = `dead letter of table 1: kitchen is closed
dead letter of table 2: no dish
dead letter of table 3: kitchen is closed
dead letter of table 4: kitchen is closed
sent back as they were: 3
table 2: dish of the day
table 1: ramen
table 3: pad thai
table 4: pho
`

func TestDeadletters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:deadletters"
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
