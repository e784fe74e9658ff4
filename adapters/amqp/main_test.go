package amqp

import (
	"testing"

	"github.com/motifmq/motif/internal/rabbitmqtest"
)

func TestMain(m *testing.M) {
	rabbitmqtest.Parallel(5)
	rabbitmqtest.Main(m)
}
