package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

const want = `busy    attempt 1: retried, again in 300ms (too many requests)
busy    attempt 2: acknowledged
down    attempt 1: retried, again in 100ms (bank does not answer)
down    attempt 2: retried, again in 200ms (bank does not answer)
down    attempt 3: dead-lettered (bank does not answer)
slow    attempt 1: retried, again in 100ms (bank does not answer)
slow    attempt 2: retried, again in 200ms (bank does not answer)
slow    attempt 3: acknowledged
stolen  attempt 1: dead-lettered (card is stolen)
`

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:retry"
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
