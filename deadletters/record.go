package deadletters

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// A Record is a letter in a file: a line of JSON that loses nothing. What is UTF-8 is text in it,
// so that people can read and edit it, and everything else is in base64.
type Record struct {
	Queue   string            `json:"queue"` // the queue of dead letters that it was in
	ID      Text              `json:"id"`
	Key     Text              `json:"key,omitzero"`
	Headers map[string]string `json:"headers,omitempty"`

	// BinaryHeaders are those whose name or value is no UTF-8: pairs of both, in base64.
	BinaryHeaders [][2][]byte `json:"binary_headers,omitempty"`

	ContentType     Text      `json:"content_type,omitzero"`
	ContentEncoding Text      `json:"content_encoding,omitzero"`
	Type            Text      `json:"type,omitzero"`
	AppID           Text      `json:"app_id,omitzero"`
	CorrelationID   Text      `json:"correlation_id,omitzero"`
	ReplyTo         Text      `json:"reply_to,omitzero"`
	Timestamp       time.Time `json:"timestamp,omitzero"`
	TTL             int64     `json:"ttl_ms,omitempty"`
	Priority        uint8     `json:"priority,omitempty"`
	Transient       bool      `json:"transient,omitempty"`
	Attempt         int       `json:"attempt,omitempty"`
	Lost            int       `json:"lost,omitempty"`

	Payload Text `json:"payload"`
}

// Text is a string in JSON if it is UTF-8, and else an object with its base64.
type Text string

type binaryText struct {
	Base64 string `json:"base64"`
}

// MarshalJSON implements [json.Marshaler].
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(binaryText{base64.StdEncoding.EncodeToString([]byte(t))})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Text) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var b binaryText
		if err := json.Unmarshal(text, &b); err != nil {
			return err
		}
		decoded, err := base64.StdEncoding.DecodeString(b.Base64)
		*t = Text(decoded)
		return err
	}
	var s string
	err := json.Unmarshal(text, &s)
	*t = Text(s)
	return err
}

// NewRecord returns the record of a letter.
func NewRecord(l *Letter) Record {
	p := &l.Properties
	r := Record{
		Queue: l.Queue, ID: Text(l.Message.UUID), Key: Text(l.Key), Payload: Text(l.Message.Payload),
		ContentType: Text(p.ContentType), ContentEncoding: Text(p.ContentEncoding), Type: Text(p.Type), AppID: Text(p.AppID),
		CorrelationID: Text(p.CorrelationID), ReplyTo: Text(p.ReplyTo), Timestamp: p.Timestamp, TTL: p.TTL.Milliseconds(),
		Priority: p.Priority, Transient: p.Transient, Attempt: p.Attempt, Lost: p.Lost,
	}
	for name, value := range l.Message.Metadata {
		if utf8.ValidString(name) && utf8.ValidString(value) {
			if r.Headers == nil {
				r.Headers = map[string]string{}
			}
			r.Headers[name] = value
		} else {
			r.BinaryHeaders = append(r.BinaryHeaders, [2][]byte{[]byte(name), []byte(value)})
		}
	}
	return r
}

// Letter returns the letter that r is the record of. It has no Settler.
func (r *Record) Letter() (Letter, error) {
	if r.TTL < 0 || r.Attempt < 0 || r.Lost < 0 {
		return Letter{}, fmt.Errorf("%w: a record with a negative number", adapters.ErrInvalid)
	}
	m := message.NewMessage(string(r.ID), []byte(r.Payload))
	for name, value := range r.Headers {
		m.Metadata[name] = value
	}
	for _, h := range r.BinaryHeaders {
		m.Metadata[string(h[0])] = string(h[1])
	}
	l := Letter{Queue: r.Queue}
	l.Message, l.Key = m, string(r.Key)
	l.Properties = adapters.Properties{
		ContentType: string(r.ContentType), ContentEncoding: string(r.ContentEncoding), Type: string(r.Type), AppID: string(r.AppID),
		CorrelationID: string(r.CorrelationID), ReplyTo: string(r.ReplyTo), Timestamp: r.Timestamp,
		TTL: time.Duration(r.TTL) * time.Millisecond, Priority: r.Priority, Transient: r.Transient, Attempt: r.Attempt, Lost: r.Lost,
	}
	return l, nil
}

// Import puts the letter of a record into the queue, as it was, and returns when the broker has it.
// It does not expire there.
func (q *Queue) Import(ctx context.Context, r *Record) error {
	l, err := r.Letter()
	if err != nil {
		return err
	}
	return q.driver.Publish(ctx, adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: q.name}, Key: l.Key, Properties: l.Properties,
		Mandatory: q.driver.Features().Ability.Has(adapters.CanReturn), Lasting: true,
	}, l.Message)
}
