package adapters

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Source says where messages come from: a queue, a group's or a private copy
// of what an exchange gets, or the replies sent to a private address.
type Source struct {
	Endpoint

	// Group names the subscribers that share one durable queue, called
	// Name:Group, and compete for its messages. "" makes a queue of this
	// subscription's own, which is gone with it or with its session.
	// Exchanges only: the consumers of a queue are one group anyway.
	Group string

	// Keys are the bindings. Direct: exact keys. Topic: patterns, see
	// [MatchTopic]; two that differ in adjacent '#' only are one, see [NormalPattern]. At
	// least one for these two kinds, none for the others.
	// Bindings of a group add up over its subscriptions, see [Unbinder].
	Keys []string

	// Prefetch is the most unsettled messages that this subscription holds,
	// those not received yet included. At least 1.
	Prefetch int

	Queue QueueSpec // the properties of the queue behind; zero for private ones and for Reply

	// HoldTime is how long this subscription means to hold a message at most, from its delivery
	// to its outcome; 0 = as long as the broker lets it. An adapter whose broker takes messages
	// back (see ErrConsumerTimeout) asks it to wait for so long, or says in its log that it may
	// not. Declare ignores it.
	HoldTime time.Duration

	// Passive uses the queue as it stands, whatever its properties: nothing is
	// declared or bound, and it is [ErrNotFound] if it is missing. Needs
	// CanPassive. Not for private sources.
	Passive bool
}

// Private reports whether the queue behind belongs to one subscription only.
func (s Source) Private() bool {
	return s.Kind == Reply || s.Kind.IsExchange() && s.Group == ""
}

// QueueName returns the name of the queue behind, or "" for a private source,
// whose queue is named by the broker.
func (s Source) QueueName() string {
	switch {
	case s.Private():
		return ""
	case s.Kind == Queue:
		return s.Name
	case s.predeclared():
		return "motif." + s.Name + ":" + s.Group // with the broker's prefix it would be none of ours
	}
	return s.Name + ":" + s.Group
}

// Needs returns the abilities without which an adapter must refuse s.
func (s Source) Needs() Ability {
	need := s.Kind.needs() | s.Queue.needs()
	if s.Group != "" {
		need |= CanGroup
	}
	if s.Passive {
		need |= CanPassive
	}
	return need
}

// Validate returns an error that wraps [ErrInvalid] where s breaks a rule that
// holds for every adapter, else nil. It does not look at Prefetch, which
// matters to Subscribe only: see [Source.ValidateSubscribe].
func (s Source) Validate() error {
	if s.Kind == Exchange {
		return fmt.Errorf("%w: %s is of a type unknown here: bind a queue to it, and use that", ErrInvalid, s.Endpoint)
	}
	if s.Kind == Reply {
		if s.Name != "" || s.Group != "" || len(s.Keys) > 0 {
			return fmt.Errorf("%w: a reply source has no name, group or keys", ErrInvalid)
		}
	} else if err := s.validate(); err != nil {
		return err
	}
	if err := s.validateGroup(); err != nil {
		return err
	}
	if err := s.validateKeys(); err != nil {
		return err
	}
	return s.validateQueue()
}

// ValidateSubscribe is Validate, and that Prefetch is at least 1 and at most
// 65535, as AMQP has it.
func (s Source) ValidateSubscribe() error {
	if s.Prefetch < 1 || s.Prefetch > math.MaxUint16 {
		return fmt.Errorf("%w: prefetch %d is not in 1..%d", ErrInvalid, s.Prefetch, math.MaxUint16)
	}
	return s.Validate()
}

func (s Source) validateGroup() error {
	switch {
	case s.Group == "":
		return nil
	case !s.Kind.IsExchange():
		return fmt.Errorf("%w: group %q given to a %s", ErrInvalid, clip(s.Group), s.Kind)
	case strings.ContainsRune(s.Group, ':'):
		return fmt.Errorf("%w: group %q contains a colon", ErrInvalid, clip(s.Group))
	}
	if err := checkText("group", s.Group, MaxNameBytes); err != nil {
		return err
	}
	return checkText("queue name", s.QueueName(), MaxNameBytes)
}

// ValidateGet is Validate, and that single messages can be taken from s: not from a private source,
// nor from a SingleActive queue.
func (s Source) ValidateGet() error {
	switch err := s.Validate(); {
	case err != nil:
		return err
	case s.Private():
		return fmt.Errorf("%w: getting from a private source", ErrInvalid)
	case s.Queue.SingleActive:
		return fmt.Errorf("%w: getting from queue %q, of which only the active consumer gets messages", ErrInvalid, clip(s.QueueName()))
	}
	return nil
}

func (s Source) validateKeys() error {
	switch {
	case s.Kind.UsesKeys() && len(s.Keys) == 0 && !s.Passive:
		return fmt.Errorf("%w: a %s source needs at least one key", ErrInvalid, s.Kind)
	case !s.Kind.UsesKeys() && len(s.Keys) > 0:
		return fmt.Errorf("%w: keys given to a %s, which does not route by key", ErrInvalid, s.Kind)
	}
	for _, key := range s.Keys {
		if err := checkText("key", key, MaxKeyBytes); err != nil {
			return err
		}
		if s.Kind == Topic {
			if err := ValidatePattern(key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s Source) validateQueue() error {
	switch {
	case s.Private() && s.Queue != (QueueSpec{}):
		return fmt.Errorf("%w: queue properties given to a private source", ErrInvalid)
	case s.Private() && s.Passive:
		return fmt.Errorf("%w: a private source cannot be passive", ErrInvalid)
	}
	return s.Queue.validate(s.QueueName())
}
