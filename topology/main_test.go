package topology

import (
	"os"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) {
	if os.Getenv(stopVar) != "" {
		beMover()
	}
	amqptest.Main(m)
}
