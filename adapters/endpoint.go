package adapters

import (
	"fmt"
	"strings"
)

// Kind is what an [Endpoint] is, and how it routes.
type Kind uint8

const (
	Queue    Kind = iota // keeps messages; its consumers compete for them
	Fanout               // copies to every bound queue
	Direct               // copies to the queues bound with exactly the message's key
	Topic                // copies to the queues bound with a pattern that matches the key
	Reply                // a private address for replies to calls: of one subscription, or from a ReplyReceiver
	Exchange             // an exchange of any type, as somebody else declared it: to publish to, never a source
)

var kindNames = [...]string{"queue", "fanout", "direct", "topic", "reply", "exchange"}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// IsExchange reports whether endpoints of this kind copy messages to bound
// queues, rather than keep them.
func (k Kind) IsExchange() bool { return k == Fanout || k == Direct || k == Topic || k == Exchange }

// UsesKeys reports whether endpoints of this kind route by key. An [Exchange] may or may not.
func (k Kind) UsesKeys() bool { return k == Direct || k == Topic }

var kindNeeds = [...]Ability{Queue: 0, Fanout: CanFanout, Direct: CanRoute, Topic: CanTopic, Reply: CanReply, Exchange: CanExchange}

// needs returns the abilities that endpoints of this kind take. An unknown kind is invalid, not
// unsupported.
func (k Kind) needs() Ability {
	if int(k) < len(kindNeeds) {
		return kindNeeds[k]
	}
	return 0
}

// Endpoint names a place at the broker.
type Endpoint struct {
	Kind Kind
	Name string
}

// String returns kind and name, as in: queue "orders".
func (e Endpoint) String() string { return fmt.Sprintf("%s %q", e.Kind, e.Name) }

func (e Endpoint) validate() error {
	if int(e.Kind) >= len(kindNames) {
		return fmt.Errorf("%w: unknown kind %d", ErrInvalid, e.Kind)
	}
	if e.Name == "" {
		return fmt.Errorf("%w: a %s needs a name", ErrInvalid, e.Kind)
	}
	if strings.HasPrefix(e.Name, brokersPrefix) && e.Kind != Reply && e.Kind != Exchange && !e.predeclared() {
		return fmt.Errorf("%w: name %q: the prefix amq. belongs to the broker", ErrInvalid, clip(e.Name))
	}
	return checkText("name", e.Name, MaxNameBytes)
}

const brokersPrefix = "amq."

// predeclared reports whether e is an exchange that AMQP has every broker have: amq.fanout,
// amq.direct and amq.topic, each of its own kind.
func (e Endpoint) predeclared() bool {
	return e.Kind.IsExchange() && e.Name == brokersPrefix+e.Kind.String()
}
