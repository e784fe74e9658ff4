package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
)

const want = `acks.on-receive    sent 5, crashed 1, done 4, lost 1
acks.after-handler sent 5, crashed 1, done 5, lost 0
`

func TestAcks(t *testing.T) { demotest.Twice(t, run, want) }
