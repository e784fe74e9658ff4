package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

const want = `cooking ramen, in trace t1
level=INFO msg="message acknowledged" result=acknowledged source=middleware id=1 attempt=1
level=INFO msg="message skipped" result=skipped source=middleware id=1 attempt=1 error="motif: handled before"
cooking fugu, in trace t2
level=ERROR msg="message dead-lettered" result=dead-lettered source=middleware id=2 attempt=1 error=poisonous
cooking pho, in trace t3
level=INFO msg="message acknowledged" result=acknowledged source=middleware id=3 attempt=1
one every 50 ms: true
results: {"acknowledged": 2, "dead-lettered": 1, "skipped": 1}
dead letter: fugu, in trace t2
`

func TestMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:middleware"
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
			if took := time.Since(began); took != 150*time.Millisecond {
				t.Errorf("four messages took %v, want three times 50 ms", took)
			}
		}
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
