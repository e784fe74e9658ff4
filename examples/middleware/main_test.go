package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/motifmq/motif/examples/internal/demotest"
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
	timed := func(ctx context.Context, args []string, out io.Writer) error {
		began := time.Now()
		err := run(ctx, args, out)
		if took := time.Since(began); took != 150*time.Millisecond {
			t.Errorf("four messages took %v, want three times 50 ms", took)
		}
		return err
	}
	demotest.Twice(t, timed, want)
}
