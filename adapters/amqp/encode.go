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
)

// Headers that say what AMQP has no property for. They are strings, because
// there are clients that refuse others.
const (
	headerUUID    = "_watermill_message_uuid" // where watermill-amqp has the id; see Config.WatermillUUID
	headerAttempt = "motif-attempt"
	headerLost    = "motif-lost"
	headerKey     = "motif-key" // of a message that was sent straight to a queue
	headerTTL     = "motif-ttl" // in milliseconds, of a message that was delayed

	// headerEscape goes before the name of a metadata key that would mean
	// something to the broker, or to this package.
	headerEscape = "motif-metadata-"
)

// outgoing is a message as it goes to the broker.
type outgoing struct {
	*route
	message    *message.Message
	timestamp  time.Time
	foreign    *foreignMessage // as which it was received, if that is more than the rest says
	user       string
	uuidHeader bool // the id also in a header
	resent     bool // it was sent before, and may be in a queue
	alone      bool // it has to go alone
}

// newOutgoing prepares m, or says why m cannot be sent.
func (d *Driver) newOutgoing(r *route, m *message.Message) (o outgoing, err error) {
	was, isForeign := r.p.Foreign.(foreignProperties)
	if err := adapters.ValidateMessage(m); err != nil && (m == nil || !isForeign || len(m.UUID) > adapters.MaxNameBytes) { // a frame is the limit for what came
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
		if len(key) <= adapters.MaxNameBytes && (!isReserved(key) || len(headerEscape)+len(key) <= adapters.MaxNameBytes) {
			continue
		}
		if o.foreign == nil || !o.foreign.hasHeader(key, value) {
			return o, invalid("metadata key of %d bytes", len(key))
		}
	}
	o.route, o.message, o.timestamp, o.uuidHeader = r, m, r.p.Timestamp, d.cfg.WatermillUUID
	if o.timestamp.IsZero() {
		o.timestamp = time.Now()
	}
	return o, nil
}

// Kinds of frames, and what is in them, as AMQP numbers it.
const (
	frameMethod, frameHeader, frameBody = 1, 2, 3
	frameHead, frameEnd                 = 7, 0xce // the length of what comes first, and the last byte

	classBasic      = 60
	methodPublish   = classBasic<<16 | 40
	methodReturn    = classBasic<<16 | 50
	methodConsume   = classBasic<<16 | 20
	methodCancel    = classBasic<<16 | 30
	methodCancelOk  = classBasic<<16 | 31
	methodDeliver   = classBasic<<16 | 60
	methodGet       = classBasic<<16 | 70
	methodGetOk     = classBasic<<16 | 71
	methodGetEmpty  = classBasic<<16 | 72
	methodAck       = classBasic<<16 | 80
	methodNack      = classBasic<<16 | 120
	methodClose     = 20<<16 | 40 // of a channel
	methodConnClose = 10<<16 | 50
)

// appendTo appends the frames of a publish on a channel to b. seq is a header
// that tells returns apart, or "". amqp091 does the same with a dozen allocations,
// which was most of what a publish cost.
func (o *outgoing) appendTo(b []byte, channel uint16, seq string, largest int) ([]byte, error) {
	b = slices.Grow(b, len(o.message.Payload)) // and a little more, once
	b, at := beginFrame(b, frameMethod, channel)
	b = binary.BigEndian.AppendUint32(b, methodPublish)
	b = append(b, 0, 0) // reserved
	b = appendShort(b, o.exchange)
	b = appendShort(b, o.key)
	mandatory := byte(0)
	if o.p.Mandatory {
		mandatory = 1
	}
	b = endFrame(append(b, mandatory), at)

	b, at = beginFrame(b, frameHeader, channel)
	b = append(b, 0, classBasic, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(o.message.Payload)))
	b = endFrame(o.appendProperties(b, seq), at)
	if size := len(b) - at; largest > 0 && size > largest {
		return nil, invalid("metadata and properties of %d bytes, at most %d fit", size, largest)
	}

	for body := o.message.Payload; len(body) > 0; {
		n := len(body)
		if most := largest - frameHead - 1; largest > 0 {
			n = min(n, most)
		}
		b, at = beginFrame(b, frameBody, channel)
		b = endFrame(append(b, body[:n]...), at)
		body = body[n:]
	}
	return b, nil
}

// ttl is the time to live in AMQP's words, "" for no limit.
func (o *outgoing) ttl() string {
	switch {
	case o.foreign != nil && o.p.TTL == o.foreign.decoded.TTL:
		return o.foreign.ttl
	case o.p.TTL == 0:
		return ""
	}
	return strconv.FormatInt(milliseconds(o.p.TTL), 10)
}

// expires reports whether the broker is to know of it. It would cut a delay short, and cannot be
// given back to the message afterwards: then it is only told to the receiver.
func (o *outgoing) expires() bool { return o.p.TTL > 0 && o.delayUnits == 0 && !o.p.Lasting }

// appendProperties appends those that are not zero, and the priority in any case, after the flags that say
// which they are.
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
			b = appendShort(b, s)
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

// appendHeaders appends nothing if there are none: the broker takes a tenth
// longer over a message with one. level is the priority that the broker is told, if it is.
func (o *outgoing) appendHeaders(b []byte, told bool, level uint8, seq string) []byte {
	p, at, metadata := &o.p, len(b), o.message.Metadata
	b = append(b, 0, 0, 0, 0)
	if o.foreign != nil {
		b, metadata = o.foreign.appendHeaders(b, o)
	} else if o.uuidHeader {
		b = appendHeader(b, headerUUID, o.message.UUID)
	}
	for key, value := range metadata {
		b = appendHeader(b, escapeKey(key), value)
	}
	if p.Attempt > 1 {
		b = appendHeader(b, headerAttempt, strconv.Itoa(p.Attempt))
	}
	if p.Lost > 0 {
		b = appendHeader(b, headerLost, strconv.Itoa(p.Lost))
	}
	if o.resent {
		b = appendHeader(b, headerResent, "1")
	}
	if told && p.Priority != level {
		b = appendHeader(b, headerPriority, strconv.Itoa(int(p.Priority)))
	} else if told && o.foreign != nil && o.foreign.props.flags&flagPriority == 0 {
		b = appendHeader(b, headerPriority, "")
	}
	if p.Key != "" && p.To.Kind == adapters.Queue {
		b = appendHeader(b, headerKey, p.Key)
	}
	if seq != "" {
		b = appendHeader(b, headerSeq, seq)
	}
	if ttl := o.ttl(); ttl != "" && !o.expires() {
		b = appendHeader(b, headerTTL, ttl)
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

// beginFrame returns also where the frame begins, for endFrame.
func beginFrame(b []byte, kind byte, channel uint16) ([]byte, int) {
	at := len(b)
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	return append(b, 0, 0, 0, 0), at
}

func endFrame(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at+3:], uint32(len(b)-at-frameHead))
	return append(b, frameEnd)
}

// appendShort appends a string of at most 255 bytes, which is what it was
// validated to have.
func appendShort(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendHeader(b []byte, name, value string) []byte {
	b = append(appendShort(b, name), 'S')
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// isReserved reports whether a header of this name would not just be carried:
// RabbitMQ acts on x- headers, CC and BCC, the last of which name more queues to put
// the message into, and this package acts on its own.
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

// isMotifHeader reports whether this package gives a header of this name its meaning.
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
