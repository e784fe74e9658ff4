package kafka

import (
	"strconv"
	"strings"
)

// tally says of the records of a queue with a single active consumer, from an offset on, how often
// they were delivered. It is committed with that offset, before they are delivered, so that who is
// active next knows. What is behind it was not delivered.
type tally []stretch

// stretch are records that follow each other.
type stretch struct {
	end   int64 // the offset behind the last
	count int   // of deliveries, or isSettled
}

const isSettled = -1

const (
	tallyPrefix = "motif1 "
	maxTally    = 3900 // bytes, of the 4096 that a broker takes (offset.metadata.max.bytes)
)

// add adds what follows.
func (t *tally) add(end int64, count int) {
	if n := len(*t) - 1; n >= 0 && (*t)[n].count == count {
		(*t)[n].end = end
	} else {
		*t = append(*t, stretch{end, count})
	}
}

// of returns how often a record was delivered, or isSettled.
func (t tally) of(offset int64) int {
	for _, s := range t {
		if offset < s.end {
			return s.count
		}
	}
	return 0
}

// text returns the tally, as lengths and counts. What would be too long is said to have been
// delivered once: that it was settled, perhaps, is forgotten.
func (t tally) text(from int64) string {
	text := []byte(tallyPrefix)
	for i, s := range t {
		if i > 0 {
			text = append(text, ',')
		}
		if len(text) > maxTally {
			s = stretch{t[len(t)-1].end, 1}
		}
		text = strconv.AppendInt(text, s.end-from, 10)
		text = append(text, ':')
		if s.count == isSettled {
			text = append(text, 's')
		} else {
			text = strconv.AppendInt(text, int64(s.count), 10)
		}
		from = s.end
		if s.end == t[len(t)-1].end {
			break
		}
	}
	return string(text)
}

// parseTally returns what a text says, or nothing if it was written by somebody else.
func parseTally(text string, from int64) (t tally) {
	text, ok := strings.CutPrefix(text, tallyPrefix)
	if !ok || text == "" {
		return nil
	}
	for _, one := range strings.Split(text, ",") {
		length, count, _ := strings.Cut(one, ":")
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n <= 0 {
			return nil
		}
		from += n
		s := stretch{end: from, count: isSettled}
		if count != "s" {
			if s.count, err = strconv.Atoi(count); err != nil || s.count < 0 {
				return nil
			}
		}
		t = append(t, s)
	}
	return t
}
