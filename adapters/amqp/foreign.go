package amqp

import (
	"errors"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// errForeign: it was noted that an exchange is somebody else's, or is no more.
// That has cost the channel, and what was begun on it is to be begun again.
var errForeign = errors.New("amqp: declare again")

// declareExchange makes an exchange exist. To Motif an exchange has no
// properties but its kind: one that somebody else declared, as transient, to be
// deleted with its last binding, or with arguments, is used as it stands.
func (s *session) declareExchange(ch *amqp091.Channel, e adapters.Endpoint) error {
	s.mu.Lock()
	_, foreign := s.foreign[e]
	s.mu.Unlock()
	if !foreign {
		err := ch.ExchangeDeclare(e.Name, e.Kind.String(), true, false, false, false, nil)
		if !isForeign(err) {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.foreign) >= maxKnown {
			clear(s.foreign)
		}
		s.foreign[e] = struct{}{}
		return errForeign
	}
	err := ch.ExchangeDeclarePassive(e.Name, e.Kind.String(), true, false, false, false, nil)
	if err != nil && errors.Is(sentinel(err), adapters.ErrNotFound) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.foreign, e)
		return errForeign
	}
	return err
}

// isBeginning reports whether a queue was said to be down in its first moments, as RabbitMQ (4.3) says
// of one that another process is declaring. It waits for it, and believes it the third time.
func (s *session) isBeginning(queue string, err error) bool {
	if err == nil || sentinel(err) != adapters.ErrUnavailable || !s.alive() { //nolint:errorlint // what wraps it has another reason
		return false
	}
	s.mu.Lock()
	if len(s.down) >= maxKnown {
		clear(s.down)
	}
	s.down[queue]++
	again := s.down[queue] < 3
	if !again {
		delete(s.down, queue)
	}
	s.mu.Unlock()
	return again && sleep(s.ctx, s.ripening())
}

// isForeign reports whether a declaration failed because the exchange differs in
// something that is not its kind. RabbitMQ looks at the kind first.
func isForeign(err error) bool {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok || e.Code != amqp091.PreconditionFailed {
		return false
	}
	_, what, ok := strings.Cut(e.Reason, "inequivalent arg '")
	name, rest, _ := strings.Cut(what, "'")
	return ok && name != "type" && strings.HasPrefix(rest, " for exchange ")
}
