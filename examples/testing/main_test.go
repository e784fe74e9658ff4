package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
)

const want = `receipt: {Order:order of ramen Cents:1450}
dead letter: {Dish:caviar Cents:140000}, card declined
`

func TestTesting(t *testing.T) { demotest.Twice(t, run, want) }
