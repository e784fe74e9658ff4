package amqp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Transient errors. An operation that no call waits for is tried again.
var (
	// ErrInUse: another client owns the queue, or consumes from it exclusively.
	ErrInUse = fmt.Errorf("%w: in use by another client", adapters.ErrUnavailable)

	// ErrLimit: an operator's limit on connections, channels or queues of a user, a vhost or a node
	// is reached.
	ErrLimit = fmt.Errorf("%w: a limit is reached", adapters.ErrUnavailable)
)

// classify wraps amqp091's error of an operation on topology with the sentinel that it means.
func classify(err error) error {
	if err == nil {
		return nil
	}
	is := sentinel(err)
	if e, ok := errors.AsType[*amqp091.Error](err); ok && is == adapters.ErrMismatch { //nolint:errorlint // it is made here
		return fmt.Errorf("%w: %w%s", is, err, mismatchHint(e))
	}
	return fmt.Errorf("%w: %w", is, err)
}

func sentinel(err error) error {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok {
		if isA[*policyError](err) {
			return adapters.ErrUnsupported
		}
		return adapters.ErrUnavailable
	}
	switch e.Code {
	case amqp091.PreconditionFailed:
		switch {
		case strings.Contains(e.Reason, "invalid arg '"), isDeprecated(e):
			return adapters.ErrUnsupported
		case isLimit(e):
			return ErrLimit
		}
		return adapters.ErrMismatch
	case amqp091.ResourceLocked:
		if strings.Contains(e.Reason, "single active consumer") { // basic.get
			return adapters.ErrInvalid
		}
		return ErrInUse
	case amqp091.NotAllowed, amqp091.ChannelError: // the latter also from amqp091, if it has no channels left
		if isLimit(e) {
			return ErrLimit
		}
		return adapters.ErrInvalid
	case amqp091.FrameError, amqp091.SyntaxError, amqp091.CommandInvalid, amqp091.UnexpectedFrame:
		if e.Server { // else it is how amqp091 reports any end of the connection
			return adapters.ErrInvalid
		}
	case amqp091.NotImplemented:
		return adapters.ErrUnsupported
	case amqp091.InternalError:
		if isDeprecated(e) {
			return adapters.ErrUnsupported
		}
	case amqp091.NotFound:
		// A classic queue whose node stops, is down, or does not answer is "not found", too, in
		// other words (rabbit_amqqueue.erl, priv_absent).
		if !strings.HasPrefix(e.Reason, "NOT_FOUND - no ") {
			return adapters.ErrUnavailable
		}
		return adapters.ErrNotFound
	case amqp091.AccessRefused:
		if strings.Contains(unquoted(e.Reason), "in exclusive use") {
			return ErrInUse
		}
		return adapters.ErrAccess
	}
	return adapters.ErrUnavailable
}

// isDeprecated reports whether the broker refuses a feature, which it names, because its version or
// operator has turned it off.
func isDeprecated(e *amqp091.Error) bool {
	return strings.Contains(e.Reason, "is deprecated") || strings.Contains(e.Reason, "feature flag is disabled")
}

// isLimit reports whether a limit on connections, channels, queues or exchanges is reached.
func isLimit(e *amqp091.Error) bool {
	says := unquoted(e.Reason)
	return e == amqp091.ErrChannelMax || strings.Contains(says, "limit") && strings.Contains(says, "reached")
}

// unquoted returns the broker's own words in a reason: names, which others choose, are in quotes.
func unquoted(reason string) string {
	var b strings.Builder
	for i, part := range strings.Split(reason, "'") {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}

// refusedLogin reports whether the broker was reached but refused the login.
func refusedLogin(err error) bool {
	e, ok := errors.AsType[*amqp091.Error](err)
	return errors.Is(err, adapters.ErrAccess) || ok && !isLimit(e) && (e.Code == amqp091.AccessRefused || e.Code == amqp091.NotAllowed)
}
