//go:build unix

package outbox

import (
	"os"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		beChild(role) // does not return
	}
	amqptest.Main(m)
}
