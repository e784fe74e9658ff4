package watermill_test

import (
	"testing"

	"github.com/motifmq/motif/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
