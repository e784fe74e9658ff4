package memory

import (
	"context"
	"errors"

	"github.com/motifmq/motif/adapters"
)

// session is one connection of a client: what was delivered in it can be settled in it only.
type session struct {
	client    *Client
	ctx       context.Context // of all messages that it delivers
	cancel    context.CancelCauseFunc
	consumers map[*consumer]struct{} // those that hold messages or may get some; under the control lock
}

func newSession(c *Client) *session {
	s := &session{client: c, consumers: make(map[*consumer]struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// endSessions ends sessions at the same time, so that nothing that one returns is delivered to
// another. The control lock is held.
func (b *Broker) endSessions(why error, sessions ...*session) {
	left := make(map[*queue]bool) // whether by a consumer, not just by what was in hand of one
	var consumers []*consumer
	for _, s := range sessions {
		for c := range s.consumers {
			consumers = append(consumers, c)
			q := c.queue
			q.mu.Lock()
			left[q] = left[q] || !c.stopped
			q.detachLost(c, why)
			q.unlock()
		}
		clear(s.consumers)
	}
	for _, s := range sessions {
		s.cancel(why)
	}
	for _, c := range consumers {
		c.cancel(why)
	}
	for q, byConsumer := range left {
		b.afterDetach(q, byConsumer)
	}
}

// lateSettleError returns the error of a settle that comes too late: nil if the session is alive,
// because then the message was settled before. lost is the consumer's.
func (s *session) lateSettleError(lost error) error {
	if lost == nil {
		lost = context.Cause(s.ctx)
	}
	switch {
	case lost == nil:
		return nil
	case errors.Is(lost, adapters.ErrClosed):
		return adapters.ErrClosed
	}
	return adapters.ErrStaleDelivery
}
