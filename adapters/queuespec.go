package adapters

import (
	"fmt"
	"time"
)

// Overflow is what a full queue does.
type Overflow uint8

const (
	RejectPublish Overflow = iota // refuse the newcomer: its publisher gets ErrNacked
	DropHead                      // drop the oldest (dead-letter it, where that is set) to make room
)

// QueueSpec is the properties of a queue. The zero value is durable and
// without limits. Two declarations of one queue must agree in every field, or
// the later one fails with [ErrMismatch].
type QueueSpec struct {
	// DeadLetter names the queue that gets what this one rejects, expires or
	// drops. The adapter declares it together with this one, as a QueueSpec{}.
	// "" = such messages are gone. Needs CanDeadLetter.
	DeadLetter string

	MaxLength  int           // most waiting messages; 0 = no limit. Needs CanLimit.
	Overflow   Overflow      // what happens past MaxLength
	MessageTTL time.Duration // every message's TTL, the shorter one counts; 0 = none. Needs CanExpire.

	// MaxPriority is the highest priority: what is published to the queue with a higher one
	// counts as this. 0 = the queue keeps the order in which messages are published to it,
	// whatever their priority, and those that come through an exchange without one.
	// Needs CanPrioritize.
	MaxPriority uint8

	// AutoDelete removes the queue, and what waits in it, when its last
	// consumer has gone. Needs CanAutoDelete.
	AutoDelete bool

	// SingleActive has one consumer at a time get the queue's messages, while the others wait: the
	// first that came, and when it has gone the one that has waited for longest. What the one
	// before held and did not settle comes first, if its session was lost or by StopAndReturn. Get
	// cannot be used. Needs CanSingleActive.
	SingleActive bool
}

// needs returns the abilities that a queue with these properties takes.
func (q QueueSpec) needs() (need Ability) {
	if q.DeadLetter != "" {
		need |= CanDeadLetter
	}
	if q.MaxLength > 0 {
		need |= CanLimit
	}
	if q.MessageTTL > 0 {
		need |= CanExpire
	}
	if q.MaxPriority > 0 {
		need |= CanPrioritize
	}
	if q.AutoDelete {
		need |= CanAutoDelete
	}
	if q.SingleActive {
		need |= CanSingleActive
	}
	return need
}

// validate looks at the properties of the queue called name.
func (q QueueSpec) validate(name string) error {
	switch {
	case q.MaxLength < 0:
		return fmt.Errorf("%w: negative max length %d", ErrInvalid, q.MaxLength)
	case q.MessageTTL < 0 || q.MessageTTL > MaxTTL:
		return fmt.Errorf("%w: message TTL of %v, which is not in 0..%v", ErrInvalid, q.MessageTTL, MaxTTL)
	case q.Overflow > DropHead:
		return fmt.Errorf("%w: unknown overflow %d", ErrInvalid, q.Overflow)
	case q.DeadLetter == "":
		return nil
	case q.DeadLetter == name:
		return fmt.Errorf("%w: queue %q is its own dead-letter queue", ErrInvalid, clip(q.DeadLetter))
	}
	if err := (Endpoint{Queue, q.DeadLetter}).validate(); err != nil {
		return fmt.Errorf("dead-letter queue of %q: %w", clip(name), err)
	}
	return nil
}
