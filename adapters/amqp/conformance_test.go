package amqp_test

import (
	"testing"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
)

func TestConformance(t *testing.T) {
	t.Parallel() // most of it waits
	for _, queueType := range []amqp.QueueType{amqp.Classic, amqp.Quorum} {
		t.Run(string(queueType), func(t *testing.T) {
			t.Parallel()
			node := amqptest.Private(t, amqptest.Options{Management: true}) // which is restarted and frozen
			a := conformancetest.RabbitMQ(node, queueType)
			conformance.Run(t, a.Open, a.Features)
		})
	}
}
