package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/motifmq/motif/examples/internal/demotest"
)

const want = `due: put the rice on
due: stir the rice
due: take the rice off
`

func TestDelay(t *testing.T) {
	timed := func(ctx context.Context, args []string, out io.Writer) error {
		began := time.Now()
		err := run(ctx, args, out)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the last reminder came after %v", took)
		}
		return err
	}
	demotest.Twice(t, timed, want)
}
