package adapters

import (
	"errors"
	"fmt"
	"strings"
)

// What can go wrong, to be tested for with errors.Is.
var (
	// ErrClosed: the driver was closed, by its Close or with its broker.
	ErrClosed = errors.New("motif: closed")

	// ErrStopped: the subscription was stopped by its own Stop. Receive
	// returns it once nothing more will come.
	ErrStopped = errors.New("motif: subscription stopped")

	// ErrInvalid: an argument breaks a rule; nothing was sent.
	ErrInvalid = errors.New("motif: invalid")

	// ErrAccess: the broker refuses this user, or this operation to this user; nothing was stored.
	// Trying again does not help until an operator has changed something. It wraps ErrInvalid.
	ErrAccess = fmt.Errorf("%w: access refused", ErrInvalid)

	// ErrUnsupported: the adapter cannot do it. See [UnsupportedError].
	ErrUnsupported = errors.New("motif: unsupported")

	// ErrUnroutable: a mandatory message reached no queue. It is not stored.
	ErrUnroutable = errors.New("motif: unroutable")

	// ErrNacked: the broker refused the message, as a full queue does. It is not
	// stored in the queue that refused; other queues of an exchange may have it. A
	// queue that was deleted does not refuse: that is ErrUnroutable, or no error if
	// the message is not Mandatory.
	ErrNacked = errors.New("motif: refused by the broker")

	// ErrUnconfirmed: it is unknown whether the broker has the message, because the
	// connection was lost or ctx ended before the confirm. Sending it again may
	// make a second copy.
	ErrUnconfirmed = errors.New("motif: unconfirmed, may be stored")

	// ErrTooLarge: the message is larger than the adapter or the broker takes.
	// Nothing was sent.
	ErrTooLarge = errors.New("motif: too large")

	// ErrUnavailable: the broker cannot be reached or refuses to serve. Nothing
	// was stored.
	ErrUnavailable = errors.New("motif: broker unavailable")

	// ErrMismatch: the queue or exchange exists with other properties. Trying
	// again does not help.
	ErrMismatch = errors.New("motif: exists with other properties")

	// ErrNotFound: what was to be used as it stands does not exist.
	ErrNotFound = errors.New("motif: not found")

	// ErrEmpty: Get found no message waiting, or TryReceive none on its way.
	ErrEmpty = errors.New("motif: queue is empty")

	// ErrPrecondition: the queue has consumers or messages, and was to be deleted only without.
	ErrPrecondition = errors.New("motif: precondition failed")

	// ErrStaleDelivery: the session that delivered the message is gone, so it
	// was not settled; the broker delivers it again.
	ErrStaleDelivery = errors.New("motif: stale delivery")

	// ErrConsumerTimeout: the broker took a message back because it was held, received or not,
	// for longer than the broker allows (RabbitMQ: consumer_timeout, 30 minutes by default). It
	// delivers it again. An error that wraps it wraps ErrSessionLost or ErrStaleDelivery, too.
	ErrConsumerTimeout = errors.New("motif: held longer than the broker allows")

	// ErrSessionLost is the cause with which the context of a received message
	// ends when the session that delivered it dies.
	ErrSessionLost = errors.New("motif: session lost")
)

// UnsupportedError says which abilities an adapter lacks. It matches
// [ErrUnsupported].
type UnsupportedError struct {
	Adapter string
	Missing Ability
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("motif: adapter %s does not support %s", e.Adapter, e.Missing)
}

// Is reports whether target is ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// PublishError says which messages of a Publish call failed, and why; the
// others were published. errors.Is and errors.As look into every failure.
type PublishError struct {
	Failed []FailedMessage // in the order of the call; never empty
}

// FailedMessage is one message that was not published, or may not have been.
type FailedMessage struct {
	Index int    // its place in the call, from 0
	UUID  string // the message's UUID
	Err   error  // ErrUnroutable, ErrNacked, ErrUnconfirmed, ErrTooLarge, ...
}

func (e *PublishError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "message %d (%q): %v", e.Failed[0].Index, clip(e.Failed[0].UUID), e.Failed[0].Err)
	if more := len(e.Failed) - 1; more > 0 {
		fmt.Fprintf(&b, " (and %d more failed)", more)
	}
	return b.String()
}

// Unwrap returns the failures of all messages.
func (e *PublishError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}
