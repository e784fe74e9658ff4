package adapters

import (
	"fmt"
	"time"
)

// Publication says where a message goes, and how.
type Publication struct {
	To Endpoint

	// Key is the routing key of a Direct or Topic endpoint, or of an Exchange, where it may be
	// empty. With a Queue it routes nothing but is carried, so that a message sent again keeps
	// the key it first came with. Not for the other kinds.
	Key string

	Properties

	// Delay keeps the message from being routed before; 0 = at once. Needs
	// CanDelay. A queue that is full by then, and refuses, must get it later, because
	// no publisher is left to be told. An adapter may be unable to enforce the TTL of a
	// message that waited, and then only passes it to the receiver; and it may refuse to
	// delay a reply.
	Delay time.Duration

	// Mandatory makes it ErrUnroutable, not success, to reach no queue. Needs CanReturn. Not with
	// Delay. The broker may not know whether a reply reaches anybody, and then it is success.
	Mandatory bool

	// Lasting keeps the message from being dropped at the end of its TTL. Its receiver is told the
	// TTL, which counts again when the message is sent on.
	Lasting bool

	// UniqueFor has others with the same id dropped for this time after the broker has taken this
	// message: what is published to the same endpoint, and has a UniqueFor itself. To their
	// publishers that is success, and it does not matter what became of this message. 0 = none.
	// A message that is refused has no effect on others. One without an id is ErrInvalid. Needs
	// CanUnique.
	UniqueFor time.Duration
}

// Needs returns the abilities without which an adapter must refuse p.
func (p Publication) Needs() Ability {
	need := p.To.Kind.needs()
	if p.Delay > 0 {
		need |= CanDelay
	}
	if p.TTL > 0 {
		need |= CanExpire
	}
	if p.Priority > 0 {
		need |= CanPrioritize
	}
	if p.Mandatory {
		need |= CanReturn
	}
	if p.UniqueFor > 0 {
		need |= CanUnique
	}
	return need
}

// Validate returns an error that wraps [ErrInvalid] where p breaks a rule that
// holds for every adapter, else nil. An adapter calls it before it sends
// anything.
func (p Publication) Validate() error {
	if err := p.To.validate(); err != nil {
		return err
	}
	switch {
	case p.Key != "" && (p.To.Kind == Fanout || p.To.Kind == Reply):
		return fmt.Errorf("%w: key %q given to a %s, which does not route by key", ErrInvalid, clip(p.Key), p.To.Kind)
	case p.Delay < 0:
		return fmt.Errorf("%w: negative delay %v", ErrInvalid, p.Delay)
	case p.TTL < 0 || p.TTL > MaxTTL:
		return fmt.Errorf("%w: TTL of %v, which is not in 0..%v", ErrInvalid, p.TTL, MaxTTL)
	case p.UniqueFor < 0 || p.UniqueFor > MaxTTL:
		return fmt.Errorf("%w: unique for %v, which is not in 0..%v", ErrInvalid, p.UniqueFor, MaxTTL)
	case p.Attempt < 0:
		return fmt.Errorf("%w: negative attempt %d", ErrInvalid, p.Attempt)
	case p.Lost < 0:
		return fmt.Errorf("%w: negative count of lost deliveries %d", ErrInvalid, p.Lost)
	case p.Mandatory && p.Delay > 0:
		return fmt.Errorf("%w: mandatory and delayed: where a delayed message goes is not known when it is published", ErrInvalid)
	}
	if err := checkText("key", p.Key, MaxKeyBytes); err != nil {
		return err
	}
	return p.validate()
}
