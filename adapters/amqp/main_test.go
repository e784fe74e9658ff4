package amqp

import (
	"testing"

	"github.com/motifmq/motif/internal/rabbitmqtest"
)

func TestMain(m *testing.M) { rabbitmqtest.Main(m) }
