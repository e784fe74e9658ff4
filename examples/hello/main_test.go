package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
)

const want = `received: Hello, World!
`

func TestHello(t *testing.T) { demotest.Twice(t, run, want) }
