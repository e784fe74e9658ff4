package adapters

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMatchTopicAsRabbitMQ checks the answers that a RabbitMQ 3.10.8 gave:
// each line of the file is a pattern and those of the keys that it matched.
func TestMatchTopicAsRabbitMQ(t *testing.T) {
	matched, keys := readMatrix(t, "testdata/topic_matrix_3.10.8.txt")
	if len(matched) != 38 || len(keys) != 24 {
		t.Fatalf("the matrix has %d patterns and %d keys, want 38 and 24", len(matched), len(keys))
	}
	for pattern, want := range matched {
		for _, key := range keys {
			if got := MatchTopic(pattern, key); got != slices.Contains(want, key) {
				t.Errorf("MatchTopic(%q, %q) = %v, RabbitMQ says %v", pattern, key, got, !got)
			}
		}
	}
}

// readMatrix returns the matched keys by pattern, and all keys.
func readMatrix(t *testing.T, file string) (matched map[string][]string, keys []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	matched = make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		pattern, rest := unquote(t, line)
		_, rest, _ = strings.Cut(rest, ":")
		var ks []string
		for rest = strings.TrimLeft(rest, " "); strings.HasPrefix(rest, `"`); rest = strings.TrimLeft(rest, " ") {
			var key string
			key, rest = unquote(t, rest)
			ks = append(ks, key)
		}
		matched[pattern] = ks
		keys = append(keys, ks...)
	}
	slices.Sort(keys)
	return matched, slices.Compact(keys)
}

func unquote(t *testing.T, s string) (first, rest string) {
	t.Helper()
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	first, err = strconv.Unquote(quoted)
	if err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return first, s[len(quoted):]
}

// matchSlowly is the rules, as plainly as they can be put.
func matchSlowly(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		return matchSlowly(pattern[1:], key) || len(key) > 0 && matchSlowly(pattern, key[1:])
	case len(key) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == key[0]) && matchSlowly(pattern[1:], key[1:])
}

func splitSlowly(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

// allTopics returns every string of up to most words out of {a, b, "", *, #}.
func allTopics(most int) []string {
	topics := []string{""}
	longest := topics
	for range most {
		var longer []string
		for _, prefix := range longest {
			for _, word := range []string{"a", "b", "", "*", "#"} {
				if len(topics) > 1 {
					word = prefix + "." + word
				}
				longer = append(longer, word)
			}
		}
		topics = append(topics, longer...)
		longest = longer
	}
	slices.Sort(topics)
	return slices.Compact(topics) // one empty word is no words, too
}

func TestMatchTopicExhaustively(t *testing.T) {
	topics := allTopics(4)
	for _, pattern := range topics {
		for _, key := range topics {
			if got, want := MatchTopic(pattern, key), matchSlowly(splitSlowly(pattern), splitSlowly(key)); got != want {
				t.Fatalf("MatchTopic(%q, %q) = %v, want %v", pattern, key, got, want)
			}
		}
	}
}

func FuzzMatchTopic(f *testing.F) {
	for _, pattern := range []string{"", "#", "a.#", "#.b", "a.*.b", "#.a.#.b.#", "#.#", "*.#.*", "a#", ".", "é.*"} {
		for _, key := range []string{"", "a", "a.b", "a.x.y.b", ".", "b.a.b.a.b", "é.", "#.*"} {
			f.Add(pattern, key)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		got := MatchTopic(pattern, key)
		if strings.Count(pattern, "#") > 4 || strings.Count(key, ".") > 12 {
			return // the reference would take hours
		}
		if want := matchSlowly(splitSlowly(pattern), splitSlowly(key)); got != want {
			t.Errorf("MatchTopic(%q, %q) = %v, want %v", pattern, key, got, want)
		}
	})
}

// hardPattern and hardKey are what RabbitMQ 3.10.8 does not answer in 20 s.
const hardPattern = "#.a.#.a.#.a.#.a.#.a.#.a"

var hardKey = strings.Repeat("a.", 119) + "a"

// TestMatchTopicIsNeverExponential: the match is found in time that grows with words
// of the pattern times words of the key. One that tries all ways takes hours for these.
func TestMatchTopicIsNeverExponential(t *testing.T) {
	for _, tail := range []string{"", ".b"} {
		matches := make(chan bool, 1)
		go func() { matches <- MatchTopic(hardPattern, hardKey+tail) }()
		select {
		case got := <-matches:
			if want := tail == ""; got != want {
				t.Errorf("with tail %q: %v, want %v", tail, got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("with tail %q: no answer within a minute", tail)
		}
	}
}

func TestMatchTopicDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { MatchTopic("#.a.*.b.#", "x.y.a.z.b") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNormalPattern(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "", "#": "#", "#.#": "#", "#.#.#": "#", "a.#.#": "a.#", "#.#.a.#.#.#": "#.a.#", "#.a.#": "#.a.#",
		"##.#": "##.#", "#.##": "#.##", "a#.#.#b": "a#.#.#b", "#.#.": "#.", "#..#": "#..#", ".#.#": ".#", "*.*": "*.*",
	} {
		if got := NormalPattern(pattern); got != want {
			t.Errorf("%q: got %q, want %q", pattern, got, want)
		}
		for _, key := range []string{"", "a", "a.b", ".", "##", "#.a", "a.", "..", "a#.#b", "##.x"} {
			if MatchTopic(pattern, key) != MatchTopic(want, key) {
				t.Errorf("%q and %q differ about %q", pattern, want, key)
			}
		}
	}
}

func TestValidatePattern(t *testing.T) {
	for _, good := range []string{
		"", "#", "*", "a.b", "a..b", ".", "é.*", "a#.b#.c#.##",
		"#.a.#", "#.#.a.#.#.#",
		strings.Repeat("*.", MaxPatternWords-1) + "*",
		strings.Repeat("#.", 60) + strings.Repeat("*.", MaxPatternWords-2) + "*",
		strings.Repeat("a", MaxKeyBytes),
	} {
		if err := ValidatePattern(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"#.a.#.b.#", "#.*.#.*.#", hardPattern,
		strings.Repeat("a.", MaxPatternWords) + "a",
		strings.Repeat(".", MaxPatternWords),
		"#." + strings.Repeat("*.", MaxPatternWords-1) + "*",
		strings.Repeat("a", MaxKeyBytes+1),
		"a.\xff", "a.\n", "a.\x00",
	} {
		if err := ValidatePattern(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", bad, err)
		}
	}
}

func BenchmarkMatchTopic(b *testing.B) {
	for _, c := range []struct{ name, pattern, key string }{
		{"plain", "usa.weather.today", "usa.weather.today"},
		{"star", "usa.*.today", "usa.weather.today"},
		{"hash", "usa.#", "usa.weather.today"},
		{"miss", "europe.#", "usa.weather.today"},
		{"two-hashes", "#.weather.#", "usa.north.weather.today"},
		{"hard-hit", hardPattern, hardKey},
		{"hard-miss", hardPattern, hardKey + ".b"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				MatchTopic(c.pattern, c.key)
			}
		})
	}
}

func ExampleMatchTopic() {
	for _, key := range []string{"usa", "usa.weather", "usa.weather.today", "europe.weather"} {
		fmt.Println(key, MatchTopic("usa.#", key), MatchTopic("*.weather", key))
	}
	// Output:
	// usa true false
	// usa.weather true true
	// usa.weather.today true false
	// europe.weather false true
}
