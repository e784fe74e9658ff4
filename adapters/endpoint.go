package adapters

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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

// Endpoint names a place at the broker.
type Endpoint struct {
	Kind Kind
	Name string
}

// String returns kind and name, as in: queue "orders".
func (e Endpoint) String() string { return fmt.Sprintf("%s %q", e.Kind, e.Name) }

// Limits that every adapter holds, so that what one broker takes another does
// not refuse. The lengths are AMQP 0-9-1's short string; the longest TTL is as many
// milliseconds as RabbitMQ counts; the limits on patterns keep RabbitMQ's matcher
// from the exponential cases it has.
const (
	MaxNameBytes        = 255
	MaxKeyBytes         = 255
	MaxTTL              = math.MaxUint32 * time.Millisecond // 49 days
	MaxPatternWords     = 32
	MaxPatternWildcards = 2 // '#' words, adjacent ones counted once
)

// Properties is what travels beside a message, and can be given to Publish
// again as it was received. The zero value is a plain durable message, to be
// tried for the first time.
type Properties struct {
	ContentType     string // media type of the payload
	ContentEncoding string // how the payload is encoded beyond that, as "gzip"; "" = it is not

	Type  string // what kind of message it is, in its publisher's words
	AppID string // the program that published it, by its own account

	CorrelationID string // ties an answer to its call; at most 255 bytes
	ReplyTo       string // where to answer: the Address of a Reply subscription, or from a ReplyReceiver

	// Timestamp is when the message was published. On Publish, zero means
	// now. An adapter keeps it to the second at least.
	Timestamp time.Time

	// Attempt counts the tries to handle this message, this one included.
	// Only a publisher sets it, when it sends a message again: an adapter
	// carries it unchanged and never counts by itself. 0 is delivered as 1.
	Attempt int

	// Lost counts the earlier deliveries that ended with no outcome, because the session of
	// whoever had the message was lost or the broker took it back (ErrConsumerTimeout). Like
	// Attempt it is set by a publisher that sends a message again, and carried unchanged: what
	// the broker has counted since then is Delivery.Returned.
	Lost int

	TTL       time.Duration // not delivered after, counted from routing; 0 = no limit. Needs CanExpire.
	Transient bool          // may be lost in a broker restart, and may be faster for it

	// Priority has the message overtake those of lower priority in queues with a MaxPriority; a
	// message that has waited for its Delay overtakes none. A queue without a MaxPriority keeps the
	// order of what is published to it. Through an exchange that holds only for messages without a
	// priority: in what order a group without a MaxPriority gets others is up to the broker. The
	// receiver is told the Priority as it was given, in any case. Needs CanPrioritize if not 0.
	Priority uint8

	// Foreign is whatever else the message came with, if another kind of client published it. Only
	// the adapter that delivered the message reads it; others carry or ignore it. Published with
	// it, the message goes on as it came in all that these fields and its metadata do not change:
	// its own properties, types of headers, no Timestamp where there was none. It is nil for what
	// an adapter published.
	Foreign any
}

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
	// message that waited, and then only tells it to the receiver; and it may refuse to
	// delay a reply.
	Delay time.Duration

	// Mandatory makes it ErrUnroutable, not success, to reach no queue. Needs CanReturn. Not with
	// Delay. The broker may not know whether a reply reaches anybody, and then it is success.
	Mandatory bool

	// Lasting keeps the message from being dropped at the end of its TTL. Its receiver is told the
	// TTL, which counts again when the message is sent on.
	Lasting bool
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
	return need
}

var kindNeeds = [...]Ability{Queue: 0, Fanout: CanFanout, Direct: CanRoute, Topic: CanTopic, Reply: CanReply, Exchange: CanExchange}

// needs returns the abilities that endpoints of this kind take. An unknown kind is invalid, not
// unsupported.
func (k Kind) needs() Ability {
	if int(k) < len(kindNeeds) {
		return kindNeeds[k]
	}
	return 0
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

func (p *Properties) validate() error {
	if err := p.check("content type", p.ContentType); err != nil {
		return err
	}
	if err := p.check("content encoding", p.ContentEncoding); err != nil {
		return err
	}
	if err := p.check("type", p.Type); err != nil {
		return err
	}
	if err := p.check("app id", p.AppID); err != nil {
		return err
	}
	if err := p.check("correlation id", p.CorrelationID); err != nil {
		return err
	}
	return p.check("reply address", p.ReplyTo)
}

func (p *Properties) check(what, value string) error {
	if value == "" || p.Foreign != nil && len(value) <= MaxNameBytes { // as the broker had it
		return nil
	}
	return checkText(what, value, MaxNameBytes)
}

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
}

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
	need := s.Kind.needs()
	if s.Group != "" {
		need |= CanGroup
	}
	if s.Passive {
		need |= CanPassive
	}
	if s.Queue.DeadLetter != "" {
		need |= CanDeadLetter
	}
	if s.Queue.MaxLength > 0 {
		need |= CanLimit
	}
	if s.Queue.MessageTTL > 0 {
		need |= CanExpire
	}
	if s.Queue.MaxPriority > 0 {
		need |= CanPrioritize
	}
	if s.Queue.AutoDelete {
		need |= CanAutoDelete
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
	q := s.Queue
	switch {
	case s.Private() && q != (QueueSpec{}):
		return fmt.Errorf("%w: queue properties given to a private source", ErrInvalid)
	case s.Private() && s.Passive:
		return fmt.Errorf("%w: a private source cannot be passive", ErrInvalid)
	case q.MaxLength < 0:
		return fmt.Errorf("%w: negative max length %d", ErrInvalid, q.MaxLength)
	case q.MessageTTL < 0 || q.MessageTTL > MaxTTL:
		return fmt.Errorf("%w: message TTL of %v, which is not in 0..%v", ErrInvalid, q.MessageTTL, MaxTTL)
	case q.Overflow > DropHead:
		return fmt.Errorf("%w: unknown overflow %d", ErrInvalid, q.Overflow)
	case q.DeadLetter != "" && q.DeadLetter == s.QueueName():
		return fmt.Errorf("%w: queue %q is its own dead-letter queue", ErrInvalid, clip(q.DeadLetter))
	case q.DeadLetter == "":
		return nil
	}
	if err := (Endpoint{Queue, q.DeadLetter}).validate(); err != nil {
		return fmt.Errorf("dead-letter queue of %q: %w", clip(s.QueueName()), err)
	}
	return nil
}

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

// checkText refuses what AMQP's short strings cannot carry, and control
// characters, which have no business in a name and forge log lines.
func checkText(what, s string, limit int) error {
	switch {
	case len(s) <= limit && isPlainASCII(s): // nearly always, and much faster
		return nil
	case len(s) > limit:
		return fmt.Errorf("%w: %s of %d bytes, at most %d fit: %q", ErrInvalid, what, len(s), limit, clip(s))
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not UTF-8: %q", ErrInvalid, what, clip(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s has a control character: %q", ErrInvalid, what, clip(s))
	}
	return nil
}

func isPlainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// clip shortens s for an error message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
