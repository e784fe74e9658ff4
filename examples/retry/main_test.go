package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
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

func TestRetry(t *testing.T) { demotest.Twice(t, run, want) }
