package amqp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// Headers for what AMQP has no property for. They are strings, because some clients refuse other
// types.
const (
	headerUUID    = "_watermill_message_uuid" // the id, for watermill-amqp; see Config.WatermillUUID
	headerAttempt = "motif-attempt"
	headerLost    = "motif-lost"
	headerKey     = "motif-key" // the key of a message that was published to a queue
	headerTTL     = "motif-ttl" // in milliseconds, of a message that was delayed

	// headerEscape precedes the name of a metadata key that would mean something to the broker or
	// to this package.
	headerEscape = "motif-metadata-"
)

// outgoing is a message as it goes to the broker.
type outgoing struct {
	*route
	message    *message.Message
	timestamp  time.Time
	due        time.Time       // the end of the delay, once it is encoded
	foreign    *foreignMessage // the message as it was received, if that says more than the rest
	user       string
	uuidHeader bool  // send the id in a header, too
	resent     bool  // it was sent before, and may be in a queue
	doubt      error // why its own queue may have it: the result of an earlier publish
	alone      bool  // it must be sent alone: see publishalone.go

	lent <-chan struct{} // closed once the payload, which was lent to the connection, is given back
}

// newOutgoing prepares m, or returns why m cannot be sent.
func (d *Driver) newOutgoing(r *route, m *message.Message) (o outgoing, err error) {
	was, isForeign := r.p.Foreign.(foreignProperties)
	if err := adapters.ValidateMessage(m); err != nil && (m == nil || !isForeign || len(m.UUID) > adapters.MaxNameBytes) { // what came from the broker is bounded by a frame
		return o, fmt.Errorf("amqp: %w", err)
	}
	if len(m.Payload) > d.cfg.MaxBody {
		return o, fmt.Errorf("amqp: %w: payload of %d bytes, at most %d", adapters.ErrTooLarge, len(m.Payload), d.cfg.MaxBody)
	}
	if isForeign {
		o.foreign = was.parse()
		if conn := d.publisher.current(); conn != nil {
			o.user = conn.user()
		}
	}
	for key, value := range m.Metadata {
		if len(escapeKey(key)) > adapters.MaxNameBytes && (o.foreign == nil || !o.foreign.hasHeader(key, value)) {
			return o, invalid("metadata key of %d bytes", len(key))
		}
	}
	o.route, o.message, o.timestamp, o.uuidHeader = r, m, r.p.Timestamp, d.cfg.WatermillUUID
	if o.timestamp.IsZero() {
		o.timestamp = time.Now()
	}
	return o, nil
}

// appendTo appends the frames of a publish to b, but for the payload if that is large: then parts
// are what goes before b, frames and pieces of the payload by turns. seq identifies the message if
// it is returned; it may be "". largest is the largest frame. amqp091 does the same with a dozen
// allocations, which was most of what a publish cost.
func (o *outgoing) appendTo(b []byte, channel uint16, seq string, largest int) (rest []byte, parts [][]byte, err error) {
	lends := len(o.message.Payload) >= netio.LargeMessage
	if !lends {
		b = slices.Grow(b, len(o.message.Payload)) // grow once, for a bit more than the payload
	}
	b, at := frame.Begin(b, frame.TypeMethod, channel)
	b = binary.BigEndian.AppendUint32(b, frame.MethodPublish)
	b = append(b, 0, 0) // reserved
	b = frame.AppendShort(b, o.exchange)
	b = frame.AppendShort(b, o.key)
	mandatory := byte(0)
	if o.p.Mandatory {
		mandatory = 1
	}
	b = frame.End(append(b, mandatory), at)

	b, at = frame.Begin(b, frame.TypeHeader, channel)
	b = append(b, 0, frame.ClassBasic, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(o.message.Payload)))
	b = frame.End(o.appendProperties(b, seq), at)
	if size := len(b) - at; largest > 0 && size > largest {
		return nil, nil, invalid("metadata and properties of %d bytes, at most %d fit", size, largest)
	}

	for body := o.message.Payload; len(body) > 0; {
		n := len(body)
		if most := largest - frame.HeadSize - 1; largest > 0 {
			n = min(n, most)
		}
		b = frame.AppendHead(b, frame.TypeBody, channel, n)
		if lends {
			parts = append(parts, b, body[:n])
			b = b[len(b):]
		} else {
			b = append(b, body[:n]...)
		}
		b = append(b, frame.EndByte)
		body = body[n:]
	}
	return b, parts, nil
}

// ttl returns the time to live as AMQP writes it, or "" for no limit.
func (o *outgoing) ttl() string {
	switch {
	case o.foreign != nil && o.p.TTL == o.foreign.decoded.TTL:
		return o.foreign.ttl
	case o.p.TTL == 0:
		return ""
	}
	return strconv.FormatInt(milliseconds(o.p.TTL), 10)
}

// expires reports whether the broker is told the TTL. It would cut a delay short, and could not be
// restored afterwards: then only the receiver is told.
func (o *outgoing) expires() bool { return o.p.TTL > 0 && o.delayUnits == 0 && !o.p.Lasting }

// appendProperties appends the flags, the priority, and the other properties that are not zero.
func (o *outgoing) appendProperties(b []byte, seq string) []byte {
	p := &o.p
	if o.foreign != nil {
		now := o.foreign.properties(o)
		return now.appendTo(b, func(b []byte) []byte {
			return o.appendHeaders(b, now.flags&flagPriority != 0, now.priority, seq)
		})
	}
	at, flags := len(b), uint16(flagDeliveryMode|flagPriority|flagTimestamp)
	b = append(b, 0, 0)
	text := func(flag uint16, s string) {
		if s != "" {
			flags |= flag
			b = frame.AppendShort(b, s)
		}
	}
	text(flagContentType, p.ContentType)
	text(flagEncoding, p.ContentEncoding)
	before := len(b)
	if b = o.appendHeaders(b, true, o.priority, seq); len(b) > before {
		flags |= flagHeaders
	}
	b = append(b, deliveryMode(p.Transient), o.priority)
	text(flagCorrelation, p.CorrelationID)
	text(flagReplyTo, p.ReplyTo)
	if o.expires() {
		text(flagExpiration, o.ttl())
	}
	text(flagMessageID, o.message.UUID)
	b = binary.BigEndian.AppendUint64(b, uint64(o.timestamp.Unix()))
	text(flagType, p.Type)
	text(flagAppID, p.AppID)
	binary.BigEndian.PutUint16(b[at:], flags)
	return b
}

func deliveryMode(transient bool) uint8 {
	if transient {
		return amqp091.Transient
	}
	return amqp091.Persistent
}

// appendHeaders appends the headers, or nothing if there are none: the broker takes a tenth longer
// for a message with headers. level is the priority that the broker is told, if told is set.
func (o *outgoing) appendHeaders(b []byte, told bool, level uint8, seq string) []byte {
	p, at, metadata := &o.p, len(b), o.message.Metadata
	b = append(b, 0, 0, 0, 0)
	if o.foreign != nil {
		b, metadata = o.foreign.appendHeaders(b, o)
	} else if o.uuidHeader {
		b = frame.AppendField(b, headerUUID, o.message.UUID)
	}
	for key, value := range metadata {
		b = frame.AppendField(b, escapeKey(key), value)
	}
	if p.Attempt > 1 {
		b = frame.AppendField(b, headerAttempt, strconv.Itoa(p.Attempt))
	}
	if p.Lost > 0 {
		b = frame.AppendField(b, headerLost, strconv.Itoa(p.Lost))
	}
	if o.resent {
		b = frame.AppendField(b, headerResent, "1")
	}
	if told && p.Priority != level {
		b = frame.AppendField(b, headerPriority, strconv.Itoa(int(p.Priority)))
	} else if told && o.foreign != nil && o.foreign.props.flags&flagPriority == 0 {
		b = frame.AppendField(b, headerPriority, "")
	}
	if p.Key != "" && p.To.Kind == adapters.Queue {
		b = frame.AppendField(b, headerKey, p.Key)
	}
	if seq != "" {
		b = frame.AppendField(b, headerSeq, seq)
	}
	if ttl := o.ttl(); ttl != "" && !o.expires() {
		b = frame.AppendField(b, headerTTL, ttl)
	}
	if o.delayUnits > 0 {
		b = o.appendLadderHeaders(b)
	}
	n := len(b) - at - 4
	if n == 0 {
		return b[:at]
	}
	binary.BigEndian.PutUint32(b[at:], uint32(n))
	return b
}

// isReserved reports whether a header of this name would not just be carried: RabbitMQ acts on x-
// headers, CC and BCC, the last two of which name more queues for the message, and this package
// acts on its own headers.
func isReserved(key string) bool {
	if key == "" {
		return false
	}
	switch key[0] {
	case 'x', 'X':
		return len(key) > 1 && key[1] == '-'
	case 'C', 'B':
		return key == "CC" || key == "BCC"
	case '_':
		return key == headerUUID
	case 'm':
		return isMotifHeader(key)
	}
	return false
}

// isMotifHeader reports whether a header of this name has a meaning for this package.
func isMotifHeader(key string) bool {
	if !strings.HasPrefix(key, "motif-") {
		return false
	}
	return key == headerSeq || key == headerAttempt || key == headerLost || key == headerPriority || key == headerResent ||
		key == headerKey || key == headerTTL ||
		strings.HasPrefix(key, headerDelay) || strings.HasPrefix(key, headerEscape)
}

func escapeKey(key string) string {
	if isReserved(key) {
		return headerEscape + key
	}
	return key
}
