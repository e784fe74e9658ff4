package amqp

import (
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// A message of somebody else's may say more than adapters.Properties and metadata have room for:
// headers that are numbers or tables, no timestamp, whatever AMQP has. One that is sent on, to
// be tried again, as a dead letter or from there, is to arrive as it came, in all that nobody
// has changed. So what it came with travels beside it, and is sent in place of what would be
// made of the rest.
//
// Messages of Motif's own have nothing of the kind.

// foreignProperties is the exchange, routing key and properties of a delivery as they came: what is in
// adapters.Properties.Foreign.
type foreignProperties string

// String says what it is, and not what is in it: headers do not belong into a log.
func (foreignProperties) String() string { return "as it came" }

// headerUserID has the user_id of a message that is sent on by another user: the broker takes
// that property from its owner only.
const headerUserID = "motif-user-id"

// isForeign reports whether a message of Motif's own would not have such properties, aside from
// its headers.
func (p *properties) isForeign() bool {
	const (
		always = flagDeliveryMode | flagPriority | flagTimestamp
		never  = flagUserID | flagClusterID
	)
	return p.flags&(always|never) != always || p.deliveryMode != amqp091.Transient && p.deliveryMode != amqp091.Persistent || p.irregular
}

// foreignMessage is an original that is read.
type foreignMessage struct {
	props   properties
	decoded adapters.Properties // of them, when it was received
	uuid    string
	ttl     string // the expiration that it had, before it waited or died
	headers []foreignHeader
}

// foreignHeader is one that came and is sent on, unless its metadata were changed.
type foreignHeader struct {
	name string // under which it is sent on
	key  string // of the metadata; "" for an id
	text string // the value there
	raw  string // its kind and value as they came
}

// parse reads what came, and how it was made known.
func (o foreignProperties) parse() *foreignMessage {
	var out adapters.Delivery
	d := decoder{m: new(message.Message), out: &out}
	d.read(string(o))
	f := frame.Reader{S: string(o)}
	f.ShortString()
	f.ShortString()
	foreign := &foreignMessage{decoded: out.Properties, uuid: d.m.UUID}
	foreign.props.read(&f)
	foreign.ttl = foreign.props.expiration
	if d.delayed {
		foreign.props.priority = foreign.decoded.Priority
	}
	for f = (frame.Reader{S: foreign.props.headers}); len(f.S) > 0; {
		name, rest := f.ShortString(), f.S
		value := text(f.Value(byte(f.Uint(1))))
		switch key, isMetadata := metadataKey(name); {
		case name == headerTTL:
			foreign.ttl = value
		case name == headerPriority && value == "":
			foreign.props.flags &^= flagPriority
		case isMetadata || name == headerUUID:
			if copiesMessage(name) {
				name = headerEscape + name
			}
			foreign.headers = append(foreign.headers, foreignHeader{name, key, value, rest[:len(rest)-len(f.S)]})
		}
	}
	return foreign
}

// hasHeader reports whether a header with this name and value is sent on.
func (foreign *foreignMessage) hasHeader(key, value string) bool {
	return slices.ContainsFunc(foreign.headers, func(h foreignHeader) bool { return h.key == key && h.text == value })
}

// properties are those that came, with what was changed since.
func (foreign *foreignMessage) properties(o *outgoing) properties {
	p, was, now := &o.p, &foreign.decoded, foreign.props
	if p.ContentType != was.ContentType {
		now.set(flagContentType, &now.contentType, p.ContentType)
	}
	if p.ContentEncoding != was.ContentEncoding {
		now.set(flagEncoding, &now.contentEncoding, p.ContentEncoding)
	}
	if p.Transient != was.Transient {
		now.flags, now.deliveryMode = now.flags|flagDeliveryMode, deliveryMode(p.Transient)
	}
	if p.Priority != was.Priority || p.Delay > 0 {
		now.flags, now.priority = now.flags|flagPriority, o.priority
	}
	if p.CorrelationID != was.CorrelationID {
		now.set(flagCorrelation, &now.correlationID, p.CorrelationID)
	}
	if p.ReplyTo != was.ReplyTo {
		now.set(flagReplyTo, &now.replyTo, p.ReplyTo)
	}
	now.set(flagExpiration, &now.expiration, "")
	if o.expires() {
		now.set(flagExpiration, &now.expiration, o.ttl())
	}
	if o.message.UUID != foreign.uuid {
		now.set(flagMessageID, &now.messageID, o.message.UUID)
	}
	if !p.Timestamp.Equal(was.Timestamp) {
		now.flags, now.timestamp = now.flags|flagTimestamp, uint64(o.timestamp.Unix())
	}
	if p.Type != was.Type {
		now.set(flagType, &now.kind, p.Type)
	}
	if now.userID != o.user {
		now.set(flagUserID, &now.userID, "")
	}
	if p.AppID != was.AppID {
		now.set(flagAppID, &now.appID, p.AppID)
	}
	return now
}

// appendHeaders appends those that came and were not changed, and returns the metadata that
// are still to be appended.
func (foreign *foreignMessage) appendHeaders(b []byte, o *outgoing) ([]byte, message.Metadata) {
	rest := maps.Clone(o.message.Metadata)
	for _, h := range foreign.headers {
		if h.name == headerUUID {
			if o.message.UUID == foreign.uuid {
				b = append(frame.AppendShort(b, h.name), h.raw...)
			}
		} else if value, is := rest[h.key]; is && value == h.text {
			b = append(frame.AppendShort(b, h.name), h.raw...)
			delete(rest, h.key)
		}
	}
	if foreign.props.userID != "" && foreign.props.userID != o.user {
		b = frame.AppendField(b, headerUserID, foreign.props.userID)
		delete(rest, headerUserID)
	}
	return b, rest
}

// metadataKey returns as which key a header is metadata, and false if it is not: if this package
// wrote it, or the broker does.
func metadataKey(name string) (string, bool) {
	switch {
	case !isReserved(name):
		return name, true
	case isMotifHeader(name):
		return strings.CutPrefix(name, headerEscape)
	}
	return name, name != headerUUID && !isBrokerHeader(name)
}

// copiesMessage reports whether RabbitMQ puts a message into the queues that a header of this name lists,
// when it is published.
func copiesMessage(name string) bool { return name == "CC" || name == "BCC" }

// isBrokerHeader reports whether RabbitMQ itself writes a header of this name. What was read of it may go
// on as metadata. Under its name it would be believed: RabbitMQ (3.10) drops a message that has
// been, as x-death says, where it is to go.
func isBrokerHeader(name string) bool {
	switch name {
	case metadataDeaths, headerDeliveries, headerAcquired:
		return true
	}
	return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
}
