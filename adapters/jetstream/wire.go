package jetstream

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// Headers of a message. NATS keeps neither the case of names nor blanks of values everywhere, and
// refuses many characters, so that all there is to say is in one value, of printable text.
const (
	header       = "Motif"        // an envelope
	headerInBody = "Motif-Inside" // instead, where it is too long for headers: its length, before the payload
	longest      = 16 << 10       // as a header
)

// envelope is all of a message but its payload, in JSON. Times are in microseconds.
type envelope struct {
	ID       string            `json:"id,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Base64   bool              `json:"base64,omitempty"` // ID and Metadata are, for they are not all UTF-8

	Key             string `json:"key,omitempty"`
	ContentType     string `json:"content_type,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	Type            string `json:"type,omitempty"`
	AppID           string `json:"app_id,omitempty"`
	CorrelationID   string `json:"correlation_id,omitempty"`
	ReplyTo         string `json:"reply_to,omitempty"`
	Timestamp       int64  `json:"timestamp,omitempty"` // since 1970
	Attempt         int    `json:"attempt,omitempty"`
	Lost            int    `json:"lost,omitempty"`
	TTL             int64  `json:"ttl,omitempty"`
	Lasting         bool   `json:"lasting,omitempty"`
	Transient       bool   `json:"transient,omitempty"`
	Priority        uint8  `json:"priority,omitempty"`
	Died            string `json:"died,omitempty"` // why, if it is a dead letter
	Mandatory       bool   `json:"-"`

	// Where it goes when its delay is over, if that is not where it waits.
	ToKind uint8  `json:"to_kind,omitempty"`
	ToName string `json:"to_name,omitempty"`
}

// encode returns m as a message to subject.
func encode(p *adapters.Publication, m *message.Message) (*nats.Msg, error) {
	e := envelope{
		ID: m.UUID, Metadata: m.Metadata,
		Key: p.Key, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, Type: p.Type, AppID: p.AppID,
		CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Timestamp: p.Timestamp.UnixMicro(), Attempt: p.Attempt, Lost: p.Lost,
		TTL: p.TTL.Microseconds(), Lasting: p.Lasting, Transient: p.Transient, Priority: p.Priority,
	}
	if p.TTL > 0 {
		e.TTL = max(e.TTL, 1)
	}
	for _, s := range []string{e.Key, e.ContentType, e.ContentEncoding, e.Type, e.AppID, e.CorrelationID, e.ReplyTo} {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("jetstream: %w: a property that is not UTF-8: %.64q", adapters.ErrInvalid, s)
		}
	}
	if p.Delay > 0 {
		e.ToKind, e.ToName = uint8(p.To.Kind), p.To.Name
	}
	return e.message(m.Payload)
}

func (e *envelope) isUTF8() bool {
	valid := utf8.ValidString(e.ID)
	for k, v := range e.Metadata {
		valid = valid && utf8.ValidString(k) && utf8.ValidString(v)
	}
	return valid
}

// message returns the envelope with a payload, which it keeps, to no subject yet.
func (e envelope) message(payload []byte) (*nats.Msg, error) {
	if !e.isUTF8() {
		metadata := make(map[string]string, len(e.Metadata))
		for k, v := range e.Metadata {
			metadata[toBase64(k)] = toBase64(v)
		}
		e.Base64, e.ID, e.Metadata = true, toBase64(e.ID), metadata
	}
	text := e.appendJSON(make([]byte, 0, 256))
	m := &nats.Msg{Header: nats.Header{}}
	if len(text) <= longest {
		m.Header[header] = []string{string(text)}
		m.Data = payload
		return m, nil
	}
	m.Header[headerInBody] = []string{strconv.Itoa(len(text))}
	m.Data = append(text, payload...)
	return m, nil
}

// decode returns what a message of ours is, or of whoever else publishes to the subject of a queue.
func decode(m *nats.Msg) (e envelope, payload []byte) {
	text, payload := "", m.Data
	if n, err := strconv.Atoi(m.Header.Get(headerInBody)); err == nil && n > 0 && n <= len(m.Data) {
		text, payload = string(m.Data[:n]), m.Data[n:]
	} else {
		text = m.Header.Get(header)
	}
	e, err := parseEnvelope(text)
	if text == "" || err != nil {
		return foreign(m), m.Data
	}
	if e.Base64 {
		metadata := make(map[string]string, len(e.Metadata))
		for k, v := range e.Metadata {
			metadata[fromBase64(k)] = fromBase64(v)
		}
		e.ID, e.Metadata, e.Base64 = fromBase64(e.ID), metadata, false
	}
	return e, payload
}

// foreign is a message that another program published: its headers are its metadata. It has an id
// that is the same in each delivery.
func foreign(m *nats.Msg) envelope {
	e := envelope{ID: m.Header.Get(nats.MsgIdHdr), Metadata: make(map[string]string, len(m.Header))}
	for k := range m.Header {
		e.Metadata[k] = m.Header.Get(k)
	}
	if at, err := m.Metadata(); err == nil {
		e.Timestamp = at.Timestamp.UnixMicro()
		if e.ID == "" {
			e.ID = at.Stream + ":" + strconv.FormatUint(at.Sequence.Stream, 10) + ":" + strconv.FormatInt(at.Timestamp.UnixNano(), 36)
		}
	}
	return e
}

// delivery returns what the receiver gets, but for its settler.
func (e *envelope) delivery(payload []byte) adapters.Delivery {
	m := message.NewMessage(e.ID, payload)
	for k, v := range e.Metadata {
		m.Metadata[k] = v
	}
	return adapters.Delivery{
		Message: m, Key: e.Key, Died: e.Died != "",
		Properties: adapters.Properties{
			ContentType: e.ContentType, ContentEncoding: e.ContentEncoding, Type: e.Type, AppID: e.AppID,
			CorrelationID: e.CorrelationID, ReplyTo: e.ReplyTo, Timestamp: time.UnixMicro(e.Timestamp),
			Attempt: max(e.Attempt, 1), Lost: e.Lost, TTL: time.Duration(e.TTL) * time.Microsecond, Transient: e.Transient, Priority: e.Priority,
		},
	}
}

// expires returns when the message must not be delivered any more, zero for never.
func (e *envelope) expires(stored time.Time, queueTTL time.Duration) time.Time {
	ttl := queueTTL
	if own := time.Duration(e.TTL) * time.Microsecond; own > 0 && !e.Lasting && (ttl == 0 || own < ttl) {
		ttl = own
	}
	if ttl == 0 {
		return time.Time{}
	}
	return stored.Add(ttl)
}

func toBase64(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }

func fromBase64(s string) string {
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return s
	}
	return string(b)
}
