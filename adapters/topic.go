package adapters

import (
	"fmt"
	"strings"
)

// MatchTopic reports whether a message with this key reaches a queue bound to a
// Topic exchange with this pattern. The rules are RabbitMQ's, as a 3.10.8
// broker applied them to each pair of the matrix in testdata:
//
//   - Key and pattern are words separated by dots. The empty string is no
//     words at all; any other empty piece is a word, so "a." is two.
//   - "*" in a pattern stands for exactly one word, also an empty one.
//   - "#" in a pattern stands for any number of words, also none.
//   - Both are wildcards only as a whole word: "a*" and "##" are plain words.
//     In a key they are always plain words.
//   - Plain words are compared byte by byte.
//
// It takes any pattern, also one that [ValidatePattern] refuses, in time that
// grows with words of the pattern times words of the key at most.
func MatchTopic(pattern, key string) bool {
	p, k := split(pattern), split(key)

	// Where the latest '#' of the pattern ends, and where in the key it may
	// end. Only that one ever needs to take more words: what an earlier one
	// takes more, the latest could take instead.
	var afterHash, hashEnd words
	var hash bool
	for p.more || k.more {
		if p.more {
			want, afterWant := p.next()
			if want == "#" {
				if !afterWant.more {
					return true
				}
				p = afterWant
				afterHash, hashEnd, hash = p, k, true
				continue
			}
			if !k.more {
				return false // taking more words would leave even fewer
			}
			if got, afterGot := k.next(); want == "*" || want == got {
				p, k = afterWant, afterGot
				continue
			}
		}
		if !hash {
			return false
		}
		_, hashEnd = hashEnd.next()
		p, k = afterHash, hashEnd
	}
	return true
}

// ValidatePattern returns an error that wraps [ErrInvalid] if pattern cannot
// be a key, or has more than MaxPatternWords words or MaxPatternWildcards '#'
// words, adjacent '#' counted as the one they mean. RabbitMQ's matcher takes
// time exponential in the number of '#', so one pattern could stop a broker.
func ValidatePattern(pattern string) error {
	if err := checkText("topic pattern", pattern, MaxKeyBytes); err != nil {
		return err
	}
	count, hashes, previous := 0, 0, ""
	for w := split(pattern); w.more; {
		var word string
		word, w = w.next()
		if word == "#" {
			if previous == "#" {
				continue
			}
			hashes++
		}
		count++
		previous = word
	}
	switch {
	case count > MaxPatternWords:
		return fmt.Errorf("%w: topic pattern of %d words, at most %d fit: %q", ErrInvalid, count, MaxPatternWords, clip(pattern))
	case hashes > MaxPatternWildcards:
		return fmt.Errorf("%w: topic pattern with %d '#', at most %d are allowed: %q", ErrInvalid, hashes, MaxPatternWildcards, clip(pattern))
	}
	return nil
}

// NormalPattern returns the pattern with each run of adjacent '#' as the one that they mean. That
// is what an adapter binds, so that what was counted is what the broker counts, and so that two
// spellings of a pattern are one binding.
func NormalPattern(pattern string) string {
	if !strings.Contains(pattern, "#.#") {
		return pattern
	}
	var kept []string
	for w := split(pattern); w.more; {
		var word string
		word, w = w.next()
		if word != "#" || len(kept) == 0 || kept[len(kept)-1] != "#" {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, ".")
}

// words is what is left of a key or pattern: more distinguishes an empty last word
// from the end.
type words struct {
	rest string
	more bool
}

func split(s string) words { return words{s, s != ""} }

// next returns the first word and what follows it; w.more must be true.
func (w words) next() (string, words) {
	word, rest, more := strings.Cut(w.rest, ".")
	return word, words{rest, more}
}
