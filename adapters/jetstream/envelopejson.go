package jetstream

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An envelope is written and read for each message, and encoding/json takes longer for it than the
// client for all the rest. What is written here, that is read here; what others may have written,
// encoding/json reads.

// appendJSON appends the envelope as encoding/json would write it, but for the order of metadata.
func (e *envelope) appendJSON(b []byte) []byte {
	w := writer{b: append(b, '{')}
	w.string("id", e.ID)
	if len(e.Metadata) > 0 {
		w.name("metadata")
		inner := writer{b: append(w.b, '{')}
		for k, v := range e.Metadata {
			inner.member(k, v)
		}
		w.b = append(inner.b, '}')
	}
	w.bool("base64", e.Base64)
	w.string("key", e.Key)
	w.string("content_type", e.ContentType)
	w.string("content_encoding", e.ContentEncoding)
	w.string("type", e.Type)
	w.string("app_id", e.AppID)
	w.string("correlation_id", e.CorrelationID)
	w.string("reply_to", e.ReplyTo)
	w.int("timestamp", e.Timestamp)
	w.int("attempt", int64(e.Attempt))
	w.int("lost", int64(e.Lost))
	w.int("ttl", e.TTL)
	w.bool("lasting", e.Lasting)
	w.bool("transient", e.Transient)
	w.int("priority", int64(e.Priority))
	w.string("died", e.Died)
	w.int("to_kind", int64(e.ToKind))
	w.string("to_name", e.ToName)
	return append(w.b, '}')
}

// writer writes the members of an object, and leaves out those that are zero.
type writer struct {
	b     []byte
	begun bool
}

func (w *writer) name(s string) {
	if w.begun {
		w.b = append(w.b, ',')
	}
	w.begun = true
	w.b = append(appendString(w.b, s), ':')
}

func (w *writer) member(name, v string) {
	w.name(name)
	w.b = appendString(w.b, v)
}

func (w *writer) string(name, v string) {
	if v != "" {
		w.member(name, v)
	}
}

func (w *writer) int(name string, v int64) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

func (w *writer) bool(name string, v bool) {
	if v {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always can be
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// parseEnvelope reads what appendJSON writes, or any other JSON of an envelope.
func parseEnvelope(text string) (e envelope, err error) {
	if utf8.ValidString(text) {
		r := reader{rest: text}
		if e, ok := r.envelope(); ok && r.rest == "" {
			return e, nil
		}
	}
	err = json.Unmarshal([]byte(text), &e)
	return e, err
}

// reader reads JSON without blanks and escapes. Each method reports whether it found what it reads.
type reader struct{ rest string }

func (r *reader) envelope() (e envelope, ok bool) {
	ok = r.object(func(name string) bool {
		switch name {
		case "id":
			return r.string(&e.ID)
		case "metadata":
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			return r.object(func(name string) bool {
				var v string
				ok := r.string(&v)
				e.Metadata[name] = v
				return ok
			})
		case "base64":
			return r.true(&e.Base64)
		case "key":
			return r.string(&e.Key)
		case "content_type":
			return r.string(&e.ContentType)
		case "content_encoding":
			return r.string(&e.ContentEncoding)
		case "type":
			return r.string(&e.Type)
		case "app_id":
			return r.string(&e.AppID)
		case "correlation_id":
			return r.string(&e.CorrelationID)
		case "reply_to":
			return r.string(&e.ReplyTo)
		case "timestamp":
			return number(r, &e.Timestamp, math.MaxInt64)
		case "attempt":
			return number(r, &e.Attempt, math.MaxInt)
		case "lost":
			return number(r, &e.Lost, math.MaxInt)
		case "ttl":
			return number(r, &e.TTL, math.MaxInt64)
		case "lasting":
			return r.true(&e.Lasting)
		case "transient":
			return r.true(&e.Transient)
		case "priority":
			return number(r, &e.Priority, math.MaxUint8)
		case "died":
			return r.string(&e.Died)
		case "to_kind":
			return number(r, &e.ToKind, math.MaxUint8)
		case "to_name":
			return r.string(&e.ToName)
		}
		return false
	})
	return e, ok
}

// object calls member with each name, to read the value.
func (r *reader) object(member func(name string) bool) bool {
	if !r.skip("{") {
		return false
	}
	for first := true; !r.skip("}"); first = false {
		var name string
		if !first && !r.skip(",") || !r.string(&name) || !r.skip(":") || !member(name) {
			return false
		}
	}
	return true
}

func (r *reader) skip(s string) (ok bool) {
	r.rest, ok = strings.CutPrefix(r.rest, s)
	return ok
}

func (r *reader) string(to *string) bool {
	if !r.skip(`"`) {
		return false
	}
	for i := range len(r.rest) {
		switch c := r.rest[i]; {
		case c == '"':
			*to, r.rest = r.rest[:i], r.rest[i+1:]
			return true
		case c == '\\' || c < ' ':
			return false
		}
	}
	return false
}

func (r *reader) true(to *bool) bool {
	*to = r.skip("true")
	return *to
}

func number[T int | int64 | uint8](r *reader, to *T, most int64) bool {
	n := 0
	for n < len(r.rest) && '0' <= r.rest[n] && r.rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseInt(r.rest[:n], 10, 64)
	if err != nil || v > most || n > 1 && r.rest[0] == '0' || n < len(r.rest) && r.rest[n] != ',' && r.rest[n] != '}' {
		return false
	}
	*to, r.rest = T(v), r.rest[n:]
	return true
}
