package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

// diedRejected is why a message died, in RabbitMQ's word.
const diedRejected = "rejected"

// Metadata that is added to a dead letter.
const (
	MetadataFirstDeathReason = "x-first-death-reason" // rejected
	MetadataFirstDeathQueue  = "x-first-death-queue"  // the queue where that was
)

// toDeadLetters writes the message to its dead-letter queue, if there still is one. It may be there
// twice, when the session is lost before the original is settled.
func (h *delivery) toDeadLetters(ctx context.Context) error {
	e := h.envelope
	e.Died = diedRejected
	r, err := again(h.record.Record, e, 0)
	if err != nil {
		return err
	}
	r.Topic = queueTopic(h.at.letters)
	if h.metadata[MetadataFirstDeathQueue] == "" { // before the envelope, which is the last one
		last := len(r.Headers) - 1
		r.Headers = append(r.Headers[:last:last],
			kgo.RecordHeader{Key: MetadataFirstDeathReason, Value: []byte(diedRejected)},
			kgo.RecordHeader{Key: MetadataFirstDeathQueue, Value: []byte(h.at.sub.queue)}, r.Headers[last])
	}
	d := h.at.sub.d
	if err = d.produce(ctx, r); errors.Is(err, adapters.ErrNotFound) {
		_, err = d.missing(&adapters.Publication{}, target{topic: r.Topic}, r)
	}
	return err
}
