package watermill

import (
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Publisher is a driver as watermill's message.Publisher. It is safe for concurrent use.
//
// A message from a [Subscriber] that is published with its id and payload unchanged keeps
// everything that its publisher gave it, unless the function says otherwise: content type, type,
// time and so on, and properties of clients other than Motif.
//
// Publishing to a queue that does not exist fails with ErrUnroutable where the adapter can tell
// (CanReturn); a [Subscriber] declares queues.
type Publisher struct {
	driver adapters.Driver
	to     func(topic string) adapters.Publication
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher on d, which the caller closes. to says where a topic leads:
// [ToFanout], [ToQueue], or a function of the caller's own, which may set every field of a
// Publication.
func NewPublisher(d adapters.Driver, to func(topic string) adapters.Publication) *Publisher {
	return &Publisher{driver: d, to: to}
}

// Publish returns nil once the broker has taken responsibility for every message. Consecutive
// messages whose contexts end together are sent together. Publish waits for each no longer than its
// context allows.
//
// A failed message does not stop those after it. If some failed, the error wraps an
// *adapters.PublishError that says which; any other error means that nothing was sent.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if p.driver == nil || p.to == nil {
		return fmt.Errorf("%w: a publisher needs a driver and where its topics lead", adapters.ErrInvalid)
	}
	for i, m := range msgs {
		if m == nil {
			return fmt.Errorf("%w: message %d is nil", adapters.ErrInvalid, i)
		}
	}
	where := p.to(topic)
	if where.To.Kind == adapters.Queue && where.Delay == 0 && p.driver.Features().Ability.Has(adapters.CanReturn) {
		where.Mandatory = true
	}
	if err := p.publish(where, msgs); err != nil {
		return fmt.Errorf("publish to topic %q: %w", topic, err)
	}
	return nil
}

func (p *Publisher) publish(where adapters.Publication, msgs []*message.Message) error {
	var failed []adapters.FailedMessage
	for start, end := 0, 0; start < len(msgs); start = end {
		ctx, to := msgs[start].Context(), where
		end = start + 1
		if came := arrivalOf(msgs[start]); came != nil {
			to = came.forwarding(where, p.driver.Features().Ability)
		} else {
			for end < len(msgs) && msgs[end].Context().Done() == ctx.Done() && arrivalOf(msgs[end]) == nil {
				end++
			}
		}
		err := p.driver.Publish(ctx, to, msgs[start:end]...)
		if err != nil && end-start == len(msgs) {
			return err
		}
		failed = append(failed, failures(err, start, msgs[start:end])...)
	}
	if failed == nil {
		return nil
	}
	return &adapters.PublishError{Failed: failed}
}

// failures returns what err, from publishing msgs, means for each of them. The first has the index
// start.
func failures(err error, start int, msgs []*message.Message) []adapters.FailedMessage {
	if err == nil {
		return nil
	}
	if some, ok := errors.AsType[*adapters.PublishError](err); ok {
		failed := append([]adapters.FailedMessage(nil), some.Failed...)
		for i := range failed {
			failed[i].Index += start
		}
		return failed
	}
	failed := make([]adapters.FailedMessage, len(msgs))
	for i, m := range msgs {
		failed[i] = adapters.FailedMessage{Index: start + i, UUID: m.UUID, Err: err}
	}
	return failed
}

// Close does nothing: there is nothing to flush, and Publish works until the driver is closed. A
// Router closes the publisher of each handler that ends, though others may share it, and a message
// still in hand may have something to publish.
func (p *Publisher) Close() error { return nil }
