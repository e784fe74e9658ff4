package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

// Why a message died: in RabbitMQ's word, and where there is none.
const (
	diedRejected = "rejected"
	diedRefused  = "refused" // by its destination, when its delay was over
)

// Undelivered is the queue of messages that were delayed and that their destination refuses, where
// that has no dead-letter queue. It is made when it is needed.
const Undelivered = "undelivered.dead"

// Metadata that is added to a dead letter.
const (
	MetadataFirstDeathReason = "x-first-death-reason" // rejected, or refused
	MetadataFirstDeathQueue  = "x-first-death-queue"  // the queue where that was
)

// toDeadLetters writes the message to its dead-letter queue, if there still is one. It may be there
// twice, when the session is lost before the original is settled.
func (h *delivery) toDeadLetters(ctx context.Context) error {
	r := deadLetter(h.record.Record, h.envelope, h.at.sub.queue, diedRejected)
	r.Topic = queueTopic(h.at.letters)
	d := h.at.sub.d
	err := d.produce(ctx, r)
	if errors.Is(err, adapters.ErrNotFound) {
		_, err = d.missing(&adapters.Publication{}, target{topic: r.Topic}, r)
	}
	return err
}

// deadLetter returns a record like r, which was decoded to e, that says why it died, and where if
// it has not before.
func deadLetter(r *kgo.Record, e envelope, where, why string) *kgo.Record {
	e.Died = why
	letter := again(r, e, 0)
	if !slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == MetadataFirstDeathQueue }) {
		last := len(letter.Headers) - 1 // the envelope
		letter.Headers = append(letter.Headers[:last:last],
			kgo.RecordHeader{Key: MetadataFirstDeathReason, Value: []byte(why)},
			kgo.RecordHeader{Key: MetadataFirstDeathQueue, Value: []byte(where)}, letter.Headers[last])
	}
	return letter
}

// isRefusal reports whether a broker will hardly take later what it did not take with this error.
func isRefusal(err error) bool {
	return errors.Is(err, adapters.ErrTooLarge) || errors.Is(err, adapters.ErrNacked) || errors.Is(err, adapters.ErrAccess)
}

// toDeadLetters writes what was delayed, and its destination refuses, to the dead-letter queue of
// that, or to Undelivered.
func (m *mover) toDeadLetters(ctx context.Context, w waiting, why error) (err error) {
	e := w.envelope
	e.Due, e.ToKind, e.ToName, e.Refused = 0, 0, "", 0
	r := deadLetter(w.Record, e, w.ToName, diedRefused)
	queues := []string{Undelivered}
	if adapters.Kind(w.ToKind) == adapters.Queue {
		t, err := m.d.known(ctx, queueTopic(w.ToName))
		if err == nil {
			spec, err := m.d.spec(ctx, w.ToName, t, nil)
			if err == nil && spec.DeadLetter != "" {
				queues = []string{spec.DeadLetter, Undelivered}
			}
		}
	}
	for _, queue := range queues {
		r := copied(r)
		r.Topic = queueTopic(queue)
		if _, err = m.d.declareQueue(ctx, queue, adapters.QueueSpec{}); err == nil {
			err = m.d.produce(ctx, r)
		}
		if err == nil {
			m.d.logger().Error("kafka: what was delayed is a dead letter, for it is refused where it goes",
				"to", w.ToName, "id", w.ID, "dead_letter_queue", queue, "error", why)
			return nil
		}
	}
	return err
}
