package deadletters

import (
	"regexp"
	"slices"
	"time"
)

// A Filter picks letters: those that meet all that it asks for. The zero value picks every letter.
type Filter struct {
	Refs   []string       // the letter is one of these: see Letter.Ref; none = any
	Reason *regexp.Regexp // its Reason matches; nil = any
	From   string         // it died in this queue; "" = in any

	OlderThan   time.Duration // it is dead for at least so long, or published if it does not say; 0 = any
	YoungerThan time.Duration // for less; 0 = any

	Headers []HeaderMatch // of its headers, all of these
	Payload []PathMatch   // of its payload, which is JSON, all of these
}

// ref returns the one of Refs that is the letter, or "".
func (f *Filter) ref(l *Letter) string {
	if id := l.Message.UUID; id != "" && slices.Contains(f.Refs, id) {
		return id
	}
	if d := l.Digest(); slices.Contains(f.Refs, d) {
		return d
	}
	return ""
}

// A HeaderMatch asks for a header.
type HeaderMatch struct {
	Name  string
	Value string // what it has to be
	Any   bool   // whatever the Value
}

// Match reports whether f picks the letter at the time now.
func (f *Filter) Match(l *Letter, now time.Time) bool {
	if len(f.Refs) > 0 && f.ref(l) == "" {
		return false
	}
	if f.Reason != nil && !f.Reason.MatchString(l.Reason()) || f.From != "" && f.From != l.From() {
		return false
	}
	if f.OlderThan > 0 || f.YoungerThan > 0 {
		age := l.Age(now)
		if age < 0 || age < f.OlderThan || f.YoungerThan > 0 && age >= f.YoungerThan {
			return false
		}
	}
	for _, h := range f.Headers {
		if value, ok := l.Message.Metadata[h.Name]; !ok || !h.Any && value != h.Value {
			return false
		}
	}
	return len(f.Payload) == 0 || matchPayload(f.Payload, l)
}
