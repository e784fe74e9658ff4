package memory

import (
	"testing"

	"github.com/motifmq/motif/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
