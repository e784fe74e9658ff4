package kafka

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

// header is the header that has the envelope. It is the last one of a record of ours, so that
// metadata may have its name.
const header = "motif"

// envelope is what a record has no place for, in JSON. Metadata are headers, and the key is the
// record's.
type envelope struct {
	ID              string `json:"id,omitempty"`
	Base64          bool   `json:"base64,omitempty"` // ID is, for it is not UTF-8
	ContentType     string `json:"content_type,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	Type            string `json:"type,omitempty"`
	AppID           string `json:"app_id,omitempty"`
	CorrelationID   string `json:"correlation_id,omitempty"`
	ReplyTo         string `json:"reply_to,omitempty"`
	Timestamp       int64  `json:"timestamp,omitempty"` // microseconds since 1970
	Attempt         int    `json:"attempt,omitempty"`
	Lost            int    `json:"lost,omitempty"`
	Returned        int    `json:"returned,omitempty"` // how often it had come back when this record was written
	Transient       bool   `json:"transient,omitempty"`
	Died            string `json:"died,omitempty"`  // why; of a dead letter
	Again           bool   `json:"again,omitempty"` // it was delayed, and may have been moved before

	// Of what is delayed, in the topic where it waits:
	Due    int64  `json:"due,omitempty"` // microseconds since 1970
	ToKind uint8  `json:"to_kind,omitempty"`
	ToName string `json:"to_name,omitempty"`

	Refused int `json:"refused,omitempty"` // how often, by where it goes
}

// encode returns m as a record of no topic yet.
func encode(p *adapters.Publication, m *message.Message) (*kgo.Record, error) {
	e := envelope{
		ID: m.UUID, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, Type: p.Type, AppID: p.AppID,
		CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Timestamp: p.Timestamp.UnixMicro(),
		Attempt: p.Attempt, Lost: p.Lost, Transient: p.Transient,
	}
	e.delayed(p)
	for _, s := range []string{p.Key, e.ContentType, e.ContentEncoding, e.Type, e.AppID, e.CorrelationID, e.ReplyTo} {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("kafka: %w: a property that is not UTF-8: %.64q", adapters.ErrInvalid, s)
		}
	}
	r := &kgo.Record{Value: append([]byte{}, m.Payload...)} // the client keeps it, and the caller may not
	if p.Key != "" {
		r.Key = []byte(p.Key)
	}
	if len(m.Metadata) > 0 { // to sort nothing takes an allocation or two
		for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(m.Metadata[k])})
		}
	}
	e.seal(r)
	if n := size(r); n > maxBytes {
		return nil, fmt.Errorf("kafka: %w: %d bytes with metadata, more than %d", adapters.ErrTooLarge, n, maxBytes)
	}
	return r, nil
}

// size is about how many bytes a record takes.
func size(r *kgo.Record) int {
	n := 100 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 8 + len(h.Key) + len(h.Value)
	}
	return n
}

// seal adds the envelope to a record.
func (e envelope) seal(r *kgo.Record) {
	if !utf8.ValidString(e.ID) {
		e.ID, e.Base64 = base64.RawStdEncoding.EncodeToString([]byte(e.ID)), true
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: header, Value: e.appendJSON(make([]byte, 0, 192))})
}

// decode returns what is in a record of ours, or of whoever else writes to the topic of a queue:
// then its headers are metadata, and it has an id that is the same in each delivery.
func decode(r *kgo.Record) (e envelope, metadata message.Metadata) {
	headers := r.Headers
	last := len(headers) - 1
	isOurs := last >= 0 && headers[last].Key == header
	if isOurs {
		var err error
		e, err = parseEnvelope(headers[last].Value)
		isOurs = err == nil
	}
	if isOurs {
		headers = headers[:last]
	} else {
		e = envelope{ID: r.Topic + ":" + strconv.FormatInt(r.Offset, 10), Timestamp: r.Timestamp.UnixMicro()}
	}
	if e.Base64 {
		if id, err := base64.RawStdEncoding.DecodeString(e.ID); err == nil {
			e.ID, e.Base64 = string(id), false
		}
	}
	metadata = make(message.Metadata, len(headers))
	for _, h := range headers {
		metadata[h.Key] = string(h.Value)
	}
	return e, metadata
}

// again returns a record like r, which was decoded to e, that says how often it has come back.
func again(r *kgo.Record, e envelope, returned int) *kgo.Record {
	next := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers)}
	if last := len(r.Headers) - 1; last >= 0 && r.Headers[last].Key == header {
		next.Headers = next.Headers[:last]
	}
	e.Returned = returned
	e.seal(next)
	return next
}

// delivery returns what the receiver gets, but for its settler.
func (e *envelope) delivery(r *kgo.Record, metadata message.Metadata) adapters.Delivery {
	m := message.NewMessage(e.ID, r.Value)
	m.Metadata = metadata
	return adapters.Delivery{
		Message: m, Key: string(r.Key), Died: e.Died != "",
		Properties: adapters.Properties{
			ContentType: e.ContentType, ContentEncoding: e.ContentEncoding, Type: e.Type, AppID: e.AppID,
			CorrelationID: e.CorrelationID, ReplyTo: e.ReplyTo, Timestamp: time.UnixMicro(e.Timestamp),
			Attempt: max(e.Attempt, 1), Lost: e.Lost, Transient: e.Transient,
		},
	}
}
