package main

import (
	"testing"

	"github.com/motifmq/motif/examples/internal/demotest"
)

const want = `not sent: publish to work queue "types": motif: invalid: a string is not among the types order.cancelled, order.placed, order.placed.v1
order.placed from /shop: cook larb, paid in EUR
order.cancelled from /shop: too hot
order.placed.v1 from /old-shop: cook som tam, paid in THB
order.placed from /another-shop: cook pad thai, paid in USD
dead letter: motif: type "order.shipped" is not known, only "order.cancelled", "order.placed", "order.placed.v1" are
`

func TestTypes(t *testing.T) { demotest.Twice(t, run, want) }
