package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
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

func TestDeadletters(t *testing.T) { demotest.Twice(t, run, want) }
