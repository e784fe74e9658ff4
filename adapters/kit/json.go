package kit

import (
	"encoding/json"
	"strconv"
	"strings"
)

// JSONWriter writes the members of a JSON object, and leaves out those that are zero, as
// encoding/json does with omitempty. It is for what an adapter writes with each message, for which
// encoding/json may take longer than the client for all the rest.
type JSONWriter struct {
	b     []byte
	begun bool
}

// NewJSONWriter begins an object that is appended to b.
func NewJSONWriter(b []byte) JSONWriter { return JSONWriter{b: append(b, '{')} }

// End returns the text with the object.
func (w *JSONWriter) End() []byte { return append(w.b, '}') }

func (w *JSONWriter) name(s string) {
	if w.begun {
		w.b = append(w.b, ',')
	}
	w.begun = true
	w.b = append(appendString(w.b, s), ':')
}

// String writes a text, which is valid UTF-8.
func (w *JSONWriter) String(name, v string) {
	if v != "" {
		w.name(name)
		w.b = appendString(w.b, v)
	}
}

// Int writes a number.
func (w *JSONWriter) Int(name string, v int64) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendInt(w.b, v, 10)
	}
}

// Bool writes true.
func (w *JSONWriter) Bool(name string, v bool) {
	if v {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

// Strings writes an object of texts, in no particular order.
func (w *JSONWriter) Strings(name string, v map[string]string) {
	if len(v) == 0 {
		return
	}
	w.name(name)
	inner := NewJSONWriter(w.b)
	for k, v := range v {
		inner.name(k)
		inner.b = appendString(inner.b, v)
	}
	w.b = inner.End()
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

// JSONReader reads what [JSONWriter] writes: JSON without blanks and escapes. Each method reports
// whether it found what it reads. What it does not read is for encoding/json.
type JSONReader struct{ rest string }

// NewJSONReader reads text, which is valid UTF-8, and of which strings that are read are parts.
func NewJSONReader(text string) JSONReader { return JSONReader{text} }

// Done reports whether all is read.
func (r *JSONReader) Done() bool { return r.rest == "" }

// Object reads an object. It calls member with each name, to read the value.
func (r *JSONReader) Object(member func(name string) bool) bool {
	if !r.skip("{") {
		return false
	}
	for first := true; !r.skip("}"); first = false {
		var name string
		if !first && !r.skip(",") || !r.String(&name) || !r.skip(":") || !member(name) {
			return false
		}
	}
	return true
}

func (r *JSONReader) skip(s string) (ok bool) {
	r.rest, ok = strings.CutPrefix(r.rest, s)
	return ok
}

// String reads a text.
func (r *JSONReader) String(to *string) bool {
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

// True reads true.
func (r *JSONReader) True(to *bool) bool {
	*to = r.skip("true")
	return *to
}

// ReadInt reads a number that is not negative, and at most so large.
func ReadInt[T int | int64 | uint8](r *JSONReader, to *T, most int64) bool {
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
