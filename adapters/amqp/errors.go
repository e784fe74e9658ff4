package amqp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// ErrAccess: the broker refuses this user, or refuses it this operation.
// Trying again does not help until an operator has changed something.
var ErrAccess = fmt.Errorf("%w: access refused", adapters.ErrInvalid)

// classify wraps what amqp091 returned for an operation on topology with the
// sentinel that it means.
func classify(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", sentinel(err), err)
}

func sentinel(err error) error {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok {
		return adapters.ErrUnavailable
	}
	switch e.Code {
	case amqp091.PreconditionFailed:
		switch {
		case strings.Contains(e.Reason, "invalid arg '"), isDeprecated(e):
			return adapters.ErrUnsupported
		case strings.Contains(e.Reason, "queue limit in "): // which an operator has set, for so many queues
			return adapters.ErrUnavailable
		}
		return adapters.ErrMismatch
	case amqp091.ResourceLocked:
		return adapters.ErrMismatch
	case amqp091.NotImplemented:
		return adapters.ErrUnsupported
	case amqp091.InternalError:
		if isDeprecated(e) {
			return adapters.ErrUnsupported
		}
	case amqp091.NotFound:
		// A classic queue whose node is down is "not found" as well.
		if strings.Contains(e.Reason, "down or inaccessible") {
			return adapters.ErrUnavailable
		}
		return adapters.ErrNotFound
	case amqp091.AccessRefused:
		return ErrAccess
	}
	return adapters.ErrUnavailable
}

// isDeprecated reports whether a broker refuses what this version of it, or its operator, has
// turned off. It names it.
func isDeprecated(e *amqp091.Error) bool {
	return strings.Contains(e.Reason, "is deprecated") || strings.Contains(e.Reason, "feature flag is disabled")
}

// isFinal reports whether err costs the connection, and would cost the next one too.
func isFinal(err error) bool { return errors.Is(sentinel(err), adapters.ErrUnsupported) }

// refusedLogin tells whether the broker was reached but will not have us.
func refusedLogin(err error) bool {
	e, ok := errors.AsType[*amqp091.Error](err)
	return errors.Is(err, ErrAccess) || ok && (e.Code == amqp091.AccessRefused || e.Code == amqp091.NotAllowed)
}
