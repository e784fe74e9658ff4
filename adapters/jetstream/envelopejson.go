package jetstream

import (
	"encoding/json"
	"math"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters/kit"
)

// An envelope is written and read for each message, and encoding/json takes longer for it than the
// client for all the rest. What is written here, that is read here; what others may have written,
// encoding/json reads.

// appendJSON appends the envelope as encoding/json would write it, but for the order of metadata.
func (e *envelope) appendJSON(b []byte) []byte {
	w := kit.NewJSONWriter(b)
	w.String("id", e.ID)
	w.Strings("metadata", e.Metadata)
	w.Bool("base64", e.Base64)
	w.String("key", e.Key)
	w.String("content_type", e.ContentType)
	w.String("content_encoding", e.ContentEncoding)
	w.String("type", e.Type)
	w.String("app_id", e.AppID)
	w.String("correlation_id", e.CorrelationID)
	w.String("reply_to", e.ReplyTo)
	w.Int("timestamp", e.Timestamp)
	w.Int("attempt", int64(e.Attempt))
	w.Int("lost", int64(e.Lost))
	w.Int("ttl", e.TTL)
	w.Bool("lasting", e.Lasting)
	w.Bool("transient", e.Transient)
	w.Int("priority", int64(e.Priority))
	w.String("died", e.Died)
	w.Int("to_kind", int64(e.ToKind))
	w.String("to_name", e.ToName)
	return w.End()
}

// parseEnvelope reads what appendJSON writes, or any other JSON of an envelope.
func parseEnvelope(text string) (e envelope, err error) {
	if utf8.ValidString(text) {
		if e, ok := readEnvelope(text); ok {
			return e, nil
		}
	}
	err = json.Unmarshal([]byte(text), &e)
	return e, err
}

// readEnvelope reads what appendJSON writes where that has no escapes.
func readEnvelope(text string) (e envelope, ok bool) {
	r := kit.NewJSONReader(text)
	ok = r.Object(func(name string) bool {
		switch name {
		case "id":
			return r.String(&e.ID)
		case "metadata":
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			return r.Object(func(name string) bool {
				var v string
				ok := r.String(&v)
				e.Metadata[name] = v
				return ok
			})
		case "base64":
			return r.True(&e.Base64)
		case "key":
			return r.String(&e.Key)
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
		case "ttl":
			return kit.ReadInt(&r, &e.TTL, math.MaxInt64)
		case "lasting":
			return r.True(&e.Lasting)
		case "transient":
			return r.True(&e.Transient)
		case "priority":
			return kit.ReadInt(&r, &e.Priority, math.MaxUint8)
		case "died":
			return r.String(&e.Died)
		case "to_kind":
			return kit.ReadInt(&r, &e.ToKind, math.MaxUint8)
		case "to_name":
			return r.String(&e.ToName)
		}
		return false
	})
	return e, ok && r.Done()
}
