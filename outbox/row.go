package outbox

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// row is a message in the outbox.
type row struct {
	id       int64
	storedAt time.Time
	to       string // its destination, as the column has it
	envelope string
	payload  []byte
	attempts int
}

// envelope is all of a message but its payload and its destination, as JSON. What is not set is
// left out.
type envelope struct {
	ID              string             `json:"id,omitempty"`
	Headers         map[string]string  `json:"headers,omitempty"`
	Key             string             `json:"key,omitempty"`
	ContentType     string             `json:"content_type,omitempty"`
	ContentEncoding string             `json:"content_encoding,omitempty"`
	Type            string             `json:"type,omitempty"`
	AppID           string             `json:"app_id,omitempty"`
	CorrelationID   string             `json:"correlation_id,omitempty"`
	ReplyTo         string             `json:"reply_to,omitempty"`
	Timestamp       time.Time          `json:"timestamp,omitzero"`
	Attempt         int                `json:"attempt,omitempty"`
	Lost            int                `json:"lost,omitempty"`
	TTL             time.Duration      `json:"ttl,omitempty"` // nanoseconds, as all here
	Transient       bool               `json:"transient,omitempty"`
	Priority        uint8              `json:"priority,omitempty"`
	Delay           time.Duration      `json:"delay,omitempty"`
	Mandatory       bool               `json:"mandatory,omitempty"`
	Lasting         bool               `json:"lasting,omitempty"`
	UniqueFor       time.Duration      `json:"unique_for,omitempty"`
	Queue           *queueDeclarations `json:"queue,omitempty"`
}

// queueDeclarations is what the relay declares before it sends to a work queue.
type queueDeclarations struct {
	Passive      bool              `json:"passive,omitempty"`
	DeadLetter   string            `json:"dead_letter,omitempty"`
	MaxLength    int               `json:"max_length,omitempty"`
	Overflow     adapters.Overflow `json:"overflow,omitempty"`
	MessageTTL   time.Duration     `json:"message_ttl,omitempty"`
	MaxPriority  uint8             `json:"max_priority,omitempty"`
	AutoDelete   bool              `json:"auto_delete,omitempty"`
	SingleActive bool              `json:"single_active,omitempty"`
}

// newRow makes a row of a message that is stored now.
func newRow(o patterns.Outgoing, now time.Time) (row, error) {
	p, m := &o.Publication, o.Message
	e := envelope{
		ID: m.UUID, Headers: m.Metadata, Key: p.Key,
		ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, Type: p.Type, AppID: p.AppID,
		CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Timestamp: p.Timestamp, Attempt: p.Attempt, Lost: p.Lost,
		TTL: p.TTL, Transient: p.Transient, Priority: p.Priority, Delay: p.Delay, Mandatory: p.Mandatory, Lasting: p.Lasting,
		UniqueFor: p.UniqueFor,
	}
	if e.Timestamp.IsZero() {
		e.Timestamp = now
	}
	if q := o.Queue.Queue; o.Queue.Name != "" {
		e.Queue = &queueDeclarations{
			o.Queue.Passive, q.DeadLetter, q.MaxLength, q.Overflow, q.MessageTTL, q.MaxPriority, q.AutoDelete, q.SingleActive,
		}
	}
	for _, text := range []string{e.ID, e.CorrelationID, e.Key, e.ReplyTo} {
		if !utf8.ValidString(text) {
			return row{}, invalid("a message whose id or key is not UTF-8 cannot be stored: %q", clip(text, 64))
		}
	}
	for key, value := range e.Headers {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return row{}, invalid("a message with a header that is not UTF-8 cannot be stored: %q", clip(key, 64))
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		return row{}, invalid("a message that cannot be stored: %v", err)
	}
	payload := []byte(m.Payload)
	if payload == nil {
		payload = []byte{} // which is not NULL
	}
	return row{storedAt: now, to: p.To.Kind.String() + ":" + p.To.Name, envelope: string(text), payload: payload}, nil
}

// outgoing makes the message again, to be published at a time.
func (r *row) outgoing(now time.Time) (o patterns.Outgoing, err error) {
	var e envelope
	if err := json.Unmarshal([]byte(r.envelope), &e); err != nil {
		return o, invalid("the envelope of a row: %v", err)
	}
	to, err := parseDestination(r.to)
	if err != nil {
		return o, err
	}
	o.Message = &message.Message{UUID: e.ID, Payload: r.payload, Metadata: e.Headers}
	o.Publication = adapters.Publication{
		To: to, Key: e.Key, Delay: e.Delay, Mandatory: e.Mandatory, Lasting: e.Lasting, UniqueFor: e.UniqueFor,
		Properties: adapters.Properties{
			ContentType: e.ContentType, ContentEncoding: e.ContentEncoding, Type: e.Type, AppID: e.AppID,
			CorrelationID: e.CorrelationID, ReplyTo: e.ReplyTo, Timestamp: e.Timestamp, Attempt: e.Attempt, Lost: e.Lost,
			TTL: e.TTL, Transient: e.Transient, Priority: e.Priority,
		},
	}
	if q := e.Queue; q != nil {
		o.Queue = adapters.Source{Endpoint: to, Passive: q.Passive, Queue: adapters.QueueSpec{
			DeadLetter: q.DeadLetter, MaxLength: q.MaxLength, Overflow: q.Overflow, MessageTTL: q.MessageTTL,
			MaxPriority: q.MaxPriority, AutoDelete: q.AutoDelete, SingleActive: q.SingleActive,
		}}
	}
	age(&o.Publication, now.Sub(r.storedAt))
	return o, nil
}

// age takes the time that a message has waited in the outbox from its Delay and its TTL. One whose
// TTL is over is still sent, for what its queue does with such messages.
func age(p *adapters.Publication, waited time.Duration) {
	waited = max(waited, 0)
	beyond := waited - p.Delay // waited after it was due
	p.Delay = max(p.Delay-waited, 0)
	if p.TTL > 0 && beyond > 0 {
		p.TTL = max(p.TTL-beyond, time.Millisecond)
	}
}

// parseDestination is the reverse of what newRow makes.
func parseDestination(text string) (adapters.Endpoint, error) {
	kind, name, _ := strings.Cut(text, ":")
	for k := adapters.Queue; k <= adapters.Exchange; k++ {
		if k.String() == kind {
			return adapters.Endpoint{Kind: k, Name: name}, nil
		}
	}
	return adapters.Endpoint{}, invalid("the destination of a row: %q", clip(text, 64))
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// text returns what of s fits a column of the database.
func text(s string) string {
	return clip(strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?"), 900)
}
