package kafka

import (
	"encoding/json"
	"math"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters/kit"
)

// An envelope is written and read for each message: see [kit.JSONWriter].

// appendJSON appends the envelope as encoding/json would write it.
func (e *envelope) appendJSON(b []byte) []byte {
	w := kit.NewJSONWriter(b)
	w.String("id", e.ID)
	w.Bool("base64", e.Base64)
	w.String("content_type", e.ContentType)
	w.String("content_encoding", e.ContentEncoding)
	w.String("type", e.Type)
	w.String("app_id", e.AppID)
	w.String("correlation_id", e.CorrelationID)
	w.String("reply_to", e.ReplyTo)
	w.Int("timestamp", e.Timestamp)
	w.Int("attempt", int64(e.Attempt))
	w.Int("lost", int64(e.Lost))
	w.Int("returned", int64(e.Returned))
	w.Bool("transient", e.Transient)
	w.String("died", e.Died)
	w.Bool("again", e.Again)
	w.Int("due", e.Due)
	w.Int("to_kind", int64(e.ToKind))
	w.String("to_name", e.ToName)
	w.Int("refused", int64(e.Refused))
	return w.End()
}

// parseEnvelope reads what appendJSON writes, or any other JSON of an envelope.
func parseEnvelope(text []byte) (e envelope, err error) {
	if utf8.Valid(text) {
		if e, ok := readEnvelope(string(text)); ok {
			return e, nil
		}
	}
	err = json.Unmarshal(text, &e)
	return e, err
}

// readEnvelope reads what appendJSON writes where that has no escapes.
func readEnvelope(text string) (e envelope, ok bool) {
	r := kit.NewJSONReader(text)
	ok = r.Object(func(name string) bool {
		switch name {
		case "id":
			return r.String(&e.ID)
		case "base64":
			return r.True(&e.Base64)
		case "content_type":
			return r.String(&e.ContentType)
		case "content_encoding":
			return r.String(&e.ContentEncoding)
		case "type":
			return r.String(&e.Type)
		case "app_id":
			return r.String(&e.AppID)
		case "correlation_id":
			return r.String(&e.CorrelationID)
		case "reply_to":
			return r.String(&e.ReplyTo)
		case "timestamp":
			return kit.ReadInt(&r, &e.Timestamp, math.MaxInt64)
		case "attempt":
			return kit.ReadInt(&r, &e.Attempt, math.MaxInt)
		case "lost":
			return kit.ReadInt(&r, &e.Lost, math.MaxInt)
		case "returned":
			return kit.ReadInt(&r, &e.Returned, math.MaxInt)
		case "transient":
			return r.True(&e.Transient)
		case "died":
			return r.String(&e.Died)
		case "again":
			return r.True(&e.Again)
		case "due":
			return kit.ReadInt(&r, &e.Due, math.MaxInt64)
		case "to_kind":
			return kit.ReadInt(&r, &e.ToKind, math.MaxUint8)
		case "to_name":
			return r.String(&e.ToName)
		case "refused":
			return kit.ReadInt(&r, &e.Refused, math.MaxInt)
		}
		return false
	})
	return e, ok && r.Done()
}
