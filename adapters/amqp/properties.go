package amqp

import (
	"encoding/binary"

	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// Flags of a message's properties, in the order in which the properties follow.
const (
	flagContentType = 1 << (15 - iota)
	flagEncoding
	flagHeaders
	flagDeliveryMode
	flagPriority
	flagCorrelation
	flagReplyTo
	flagExpiration
	flagMessageID
	flagTimestamp
	flagType
	flagUserID
	flagAppID
	flagClusterID
)

// properties are the properties of a message in AMQP. Those without a flag are zero.
type properties struct {
	flags           uint16
	contentType     string
	contentEncoding string
	headers         string // the table's fields, undecoded
	deliveryMode    uint8
	priority        uint8
	correlationID   string
	replyTo         string
	expiration      string
	messageID       string
	timestamp       uint64
	kind            string // AMQP's type
	userID          string
	appID           string
	clusterID       string

	irregular bool // a string is empty, or none that adapters.Properties would hold
}

// read decodes the properties.
func (p *properties) read(r *frame.Reader) {
	p.flags = uint16(r.Uint(2))
	p.contentType = p.readText(r, flagContentType)
	p.contentEncoding = p.readText(r, flagEncoding)
	if p.flags&flagHeaders != 0 {
		p.headers = r.LongString()
	}
	if p.flags&flagDeliveryMode != 0 {
		p.deliveryMode = uint8(r.Uint(1))
	}
	if p.flags&flagPriority != 0 {
		p.priority = uint8(r.Uint(1))
	}
	p.correlationID = p.readText(r, flagCorrelation)
	p.replyTo = p.readText(r, flagReplyTo)
	p.expiration = p.readText(r, flagExpiration)
	if p.flags&flagMessageID != 0 {
		p.messageID = r.ShortString()
		p.irregular = p.irregular || p.messageID == ""
	}
	if p.flags&flagTimestamp != 0 {
		p.timestamp = r.Uint(8)
	}
	if p.flags&(flagType|flagUserID|flagAppID|flagClusterID) != 0 {
		p.kind, p.userID = p.readText(r, flagType), p.readText(r, flagUserID)
		p.appID, p.clusterID = p.readText(r, flagAppID), p.readText(r, flagClusterID)
	}
}

func (p *properties) readText(r *frame.Reader, flag uint16) string {
	if p.flags&flag == 0 {
		return ""
	}
	s := r.ShortString()
	p.irregular = p.irregular || s == "" || !isPlain(s)
	return s
}

// isPlain reports whether adapters.Publication takes s as a property.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// set sets a string property, or removes it if s is empty.
func (p *properties) set(flag uint16, field *string, s string) {
	*field = s
	if p.flags |= flag; s == "" {
		p.flags &^= flag
	}
}

// appendTo appends p, with headers from appendHeaders.
func (p *properties) appendTo(b []byte, appendHeaders func([]byte) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0)
	text := func(flag uint16, s string) {
		if p.flags&flag != 0 {
			b = frame.AppendShort(b, s)
		}
	}
	text(flagContentType, p.contentType)
	text(flagEncoding, p.contentEncoding)
	before := len(b)
	p.flags &^= flagHeaders
	if b = appendHeaders(b); len(b) > before {
		p.flags |= flagHeaders
	}
	if p.flags&flagDeliveryMode != 0 {
		b = append(b, p.deliveryMode)
	}
	if p.flags&flagPriority != 0 {
		b = append(b, p.priority)
	}
	text(flagCorrelation, p.correlationID)
	text(flagReplyTo, p.replyTo)
	text(flagExpiration, p.expiration)
	text(flagMessageID, p.messageID)
	if p.flags&flagTimestamp != 0 {
		b = binary.BigEndian.AppendUint64(b, p.timestamp)
	}
	text(flagType, p.kind)
	text(flagUserID, p.userID)
	text(flagAppID, p.appID)
	text(flagClusterID, p.clusterID)
	binary.BigEndian.PutUint16(b[at:], p.flags)
	return b
}
