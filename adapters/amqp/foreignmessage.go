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

// Another program's message may say more than adapters.Properties and metadata have room for:
// headers that are numbers or tables, no timestamp, whatever AMQP allows. When it is sent on (a
// retry, a dead letter, a redrive), everything that nobody changed must arrive as it came. So its
// original properties travel beside it, and are sent in place of what would be made of the rest.
//
// Messages from Motif have no such properties.

// foreignProperties are the exchange, routing key and properties of a delivery, undecoded: the
// value of adapters.Properties.Foreign.
type foreignProperties string

// String does not show the content: headers do not belong in a log.
func (foreignProperties) String() string { return "as it came" }

// headerUserID holds the user_id of a message that another user sends on: the broker accepts that
// property from its owner only.
const headerUserID = "motif-user-id"

// isForeign reports whether a message from Motif would not have such properties, headers aside.
func (p *properties) isForeign() bool {
	const (
		always = flagDeliveryMode | flagPriority | flagTimestamp
		never  = flagUserID | flagClusterID
	)
	return p.flags&(always|never) != always || p.deliveryMode != amqp091.Transient && p.deliveryMode != amqp091.Persistent || p.irregular
}

// foreignMessage is a parsed foreignProperties.
type foreignMessage struct {
	props   properties
	decoded adapters.Properties // from props, when it was received
	uuid    string
	ttl     string // the expiration before it was delayed or died
	headers []foreignHeader
}

// foreignHeader is a header that is sent on unchanged, unless its metadata changed.
type foreignHeader struct {
	name string // the name to send it under
	key  string // of the metadata; "" for an id
	text string // the metadata's value
	raw  string // type and value, undecoded
}

// parse parses the properties, and decodes them as a delivery does.
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

// properties returns the properties as they came, with the changes made since.
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

// appendHeaders appends the unchanged headers, and returns the metadata that are left to append.
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

// metadataKey returns the metadata key for a header, or false if the header is no metadata because
// this package or the broker wrote it.
func metadataKey(name string) (string, bool) {
	switch {
	case !isReserved(name):
		return name, true
	case isMotifHeader(name):
		return strings.CutPrefix(name, headerEscape)
	}
	return name, name != headerUUID && !isBrokerHeader(name)
}

// copiesMessage reports whether a header of this name makes RabbitMQ put a message into the queues
// that it lists, when it is published.
func copiesMessage(name string) bool { return name == "CC" || name == "BCC" }

// isBrokerHeader reports whether RabbitMQ itself writes headers of this name. What was read from
// them may be sent on as metadata. Under the same name RabbitMQ would believe it: 3.10 drops a
// message that, by its x-death, was in the queue it is going to.
func isBrokerHeader(name string) bool {
	switch name {
	case metadataDeaths, headerDeliveries, headerAcquired:
		return true
	}
	return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
}
