package amqp

import (
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) {
	amqptest.Parallel(8)
	amqptest.Main(m)
}
