package amqp

import (
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) {
	amqptest.Parallel(6)
	amqptest.Main(m)
}
