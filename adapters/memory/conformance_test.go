package memory_test

import (
	"testing"

	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
)

func TestConformance(t *testing.T) {
	a := conformancetest.Memory()
	conformance.Run(t, a.Open, a.Features)
}
