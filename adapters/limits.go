package adapters

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits that every adapter holds, so that what one broker takes another does
// not refuse. The lengths are AMQP 0-9-1's short string; the longest TTL is as many
// milliseconds as RabbitMQ counts; the limits on patterns keep RabbitMQ's matcher
// from the exponential cases it has.
const (
	MaxNameBytes        = 255
	MaxKeyBytes         = 255
	MaxTTL              = math.MaxUint32 * time.Millisecond // 49 days
	MaxPatternWords     = 32
	MaxPatternWildcards = 2 // '#' words, adjacent ones counted once
)

// checkText refuses what AMQP's short strings cannot carry, and control
// characters, which have no business in a name and forge log lines.
func checkText(what, s string, limit int) error {
	switch {
	case len(s) <= limit && isPlainASCII(s): // nearly always, and much faster
		return nil
	case len(s) > limit:
		return fmt.Errorf("%w: %s of %d bytes, at most %d fit: %q", ErrInvalid, what, len(s), limit, clip(s))
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not UTF-8: %q", ErrInvalid, what, clip(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%w: %s has a control character: %q", ErrInvalid, what, clip(s))
	}
	return nil
}

func isPlainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// clip shortens s for an error message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
