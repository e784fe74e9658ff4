package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// Why a message died, in RabbitMQ's words.
const (
	diedRejected = "rejected"
	diedExpired  = "expired"
)

// Metadata that is added to a dead letter.
const (
	MetadataFirstDeathReason = "x-first-death-reason" // rejected or expired
	MetadataFirstDeathQueue  = "x-first-death-queue"  // the queue where that was
)

// toDeadLetters sends the message to its dead-letter queue, and waits until it is there.
func (h *delivery) toDeadLetters(ctx context.Context) error {
	back := make(chan error, 1)
	if err := h.sendDeadLetter(diedRejected, func(err error) { back <- err }); err != nil {
		return err
	}
	select {
	case err := <-back:
		return err
	case <-ctx.Done():
		return fmt.Errorf("jetstream: settle: %w", ctx.Err())
	}
}

// sendDeadLetter sends the message to its dead-letter queue, and calls done, once it is there or
// there is no such queue any more, or with an error. It may be there twice, when the session is
// lost before the original is acknowledged.
func (h *delivery) sendDeadLetter(why string, done func(error)) error {
	d, s := h.at.sub.d, h.at.session
	e := h.envelope
	e.Died = why
	if !e.Lasting {
		e.TTL = 0 // else it would die there for the same reason
	}
	if e.Metadata = maps.Clone(e.Metadata); e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	if e.Metadata[MetadataFirstDeathQueue] == "" {
		e.Metadata[MetadataFirstDeathReason], e.Metadata[MetadataFirstDeathQueue] = why, h.at.queue.name
	}
	m, err := e.message(h.payload)
	if err != nil {
		return err
	}
	name := nameQueue(h.at.queue.spec.DeadLetter)
	m.Subject = name.subject()
	return s.request(m, func(back *nats.Msg, err error) {
		if err != nil || !noResponders(back) {
			done(confirmed(back, err))
			return
		}
		// This is the goroutine that reads: another one asks what that means.
		if !d.tasks.Go(func() {
			_, err := s.look(s.ctx, name)
			if errors.Is(err, adapters.ErrNotFound) {
				done(nil)
				return
			}
			done(fmt.Errorf("jetstream: dead-letter queue %q: %w", name.name, errors.Join(adapters.ErrUnavailable, err)))
		}) {
			done(adapters.ErrClosed)
		}
	})
}
