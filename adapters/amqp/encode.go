package amqp

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Headers that say what AMQP has no property for. They are strings, because
// there are clients that refuse others.
const (
	headerUUID    = "_watermill_message_uuid" // where watermill-amqp has it; the same as the message id
	headerAttempt = "motif-attempt"
	headerKey     = "motif-key" // of a message that was sent straight to a queue
	headerTTL     = "motif-ttl" // in milliseconds, of a message that was delayed

	// headerEscape goes before the name of a metadata key that would mean
	// something to the broker, or to this package.
	headerEscape = "motif-metadata-"
)

// outgoing is a message as it goes to the broker.
type outgoing struct {
	exchange, key string
	mandatory     bool
	msg           amqp091.Publishing
	size          int // of its header frame, or more
}

// tables are used again: amqp091 encodes one before it returns.
var tables = sync.Pool{New: func() any { return make(amqp091.Table, 8) }}

// release gives back what was borrowed for o, which is not used any more.
func (o *outgoing) release() {
	if len(o.msg.Headers) <= 64 {
		clear(o.msg.Headers)
		tables.Put(o.msg.Headers)
	}
}

// encode makes o of m. The body is not copied: amqp091 copies it before it
// returns.
func (d *Driver) encode(o *outgoing, r *route, m *message.Message) error {
	if err := adapters.ValidateMessage(m); err != nil {
		return err
	}
	if len(m.Payload) > d.cfg.MaxBody {
		return fmt.Errorf("amqp: %w: payload of %d bytes, at most %d", adapters.ErrTooLarge, len(m.Payload), d.cfg.MaxBody)
	}
	p := r.p
	headers := tables.Get().(amqp091.Table)
	for key, value := range m.Metadata {
		if key = escape(key); len(key) > adapters.MaxNameBytes {
			return invalid("metadata key of %d bytes, escaped", len(key))
		}
		headers[key] = value
	}
	headers[headerUUID] = m.UUID
	if p.Attempt > 1 {
		headers[headerAttempt] = strconv.Itoa(p.Attempt)
	}
	if p.Key != "" && p.To.Kind == adapters.Queue {
		headers[headerKey] = p.Key
	}
	o.exchange, o.key, o.mandatory = r.exchange, r.key, p.Mandatory
	o.msg = amqp091.Publishing{
		Headers:       headers,
		ContentType:   p.ContentType,
		DeliveryMode:  amqp091.Persistent,
		Priority:      p.Priority,
		CorrelationId: p.CorrelationID,
		ReplyTo:       p.ReplyTo,
		MessageId:     m.UUID,
		Timestamp:     p.Timestamp,
		Body:          m.Payload,
	}
	if p.Transient {
		o.msg.DeliveryMode = amqp091.Transient
	}
	if p.Timestamp.IsZero() {
		o.msg.Timestamp = time.Now()
	}
	ttl := ""
	if p.TTL > 0 {
		ttl = strconv.FormatInt(milliseconds(p.TTL), 10)
	}
	if r.steps == 0 {
		o.msg.Expiration = ttl
	} else {
		r.climb(headers, ttl)
	}
	const fixed = 128 // frame, flags, numbers, lengths, and the header that tells returns apart
	o.size = fixed + len(p.ContentType) + len(p.CorrelationID) + len(p.ReplyTo) + len(m.UUID)
	for key, value := range headers {
		o.size += 1 + len(key) + 5 + len(value.(string))
	}
	return nil
}

// meaningful tells whether a header of this name would not just be carried:
// RabbitMQ acts on x- headers, CC and BCC, the last of which name more queues to put
// the message into, and this package acts on its own.
func meaningful(key string) bool {
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
		return own(key)
	}
	return false
}

// own tells whether this package gives a header of this name its meaning.
func own(key string) bool {
	if !strings.HasPrefix(key, "motif-") {
		return false
	}
	return key == headerSeq || key == headerAttempt || key == headerKey || key == headerTTL ||
		strings.HasPrefix(key, headerDelay) || strings.HasPrefix(key, headerEscape)
}

func escape(key string) string {
	if meaningful(key) {
		return headerEscape + key
	}
	return key
}
