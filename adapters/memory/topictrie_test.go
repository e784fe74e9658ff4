package memory

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// matches returns what match visits, in order, so that a double visit shows.
func (t *topicTrie[T]) matches(key string) []T {
	var got []T
	t.match(key, func(v T) { got = append(got, v) })
	return got
}

// TestTrieAsRabbitMQ checks the answers of a RabbitMQ 3.10.8 that
// adapters.MatchTopic is checked against, too.
func TestTrieAsRabbitMQ(t *testing.T) {
	text, err := os.ReadFile("../testdata/topic_matrix_3.10.8.txt")
	if err != nil {
		t.Fatal(err)
	}
	unquote := func(s string) (first, rest string) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("%v: %s", err, s)
		}
		first, _ = strconv.Unquote(quoted)
		return first, s[len(quoted):]
	}
	var trie topicTrie[string]
	want := make(map[string][]string) // patterns by key
	for line := range strings.Lines(string(text)) {
		pattern, rest := unquote(line)
		trie.add(pattern, pattern)
		for _, rest, _ = strings.Cut(rest, ": "); strings.HasPrefix(rest, `"`); rest = strings.TrimLeft(rest, " ") {
			var key string
			key, rest = unquote(rest)
			want[key] = append(want[key], pattern)
		}
	}
	if len(want) != 24 || len(trie.values) != 38 {
		t.Fatalf("%d keys and %d patterns, want 24 and 38", len(want), len(trie.values))
	}
	for key, patterns := range want {
		got := trie.matches(key)
		slices.Sort(got)
		slices.Sort(patterns)
		if !slices.Equal(got, patterns) {
			t.Errorf("key %q matches %q, RabbitMQ says %q", key, got, patterns)
		}
	}
}

// allTopics returns every string of up to most words out of {a, b, "", *, #}.
func allTopics(most int) []string {
	words := []string{"a", "b", "", "*", "#"}
	topics, longest := []string{}, words
	for range most {
		topics = append(topics, longest...)
		var longer []string
		for _, prefix := range longest {
			for _, word := range words {
				longer = append(longer, prefix+"."+word)
			}
		}
		longest = longer
	}
	return topics
}

func TestTrieExhaustively(t *testing.T) {
	topics := allTopics(4)
	var trie topicTrie[string]
	for _, pattern := range topics {
		trie.add(pattern, pattern)
	}
	for _, key := range topics {
		checkAgainst(t, &trie, topics, key)
	}

	// And with half of them gone.
	var kept []string
	for i, pattern := range topics {
		if i%2 == 0 {
			trie.remove(pattern, pattern)
		} else {
			kept = append(kept, pattern)
		}
	}
	for _, key := range topics {
		checkAgainst(t, &trie, kept, key)
	}
}

// checkAgainst compares with a matcher that asks each pattern. Each pattern is
// bound with itself.
func checkAgainst(t *testing.T, trie *topicTrie[string], patterns []string, key string) {
	t.Helper()
	var want []string
	for _, pattern := range patterns {
		if adapters.MatchTopic(pattern, key) {
			want = append(want, pattern)
		}
	}
	got := trie.matches(key)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("key %q matches %q, want %q", key, got, want)
	}
}

func TestTrieIsASet(t *testing.T) {
	var trie topicTrie[int]
	if !trie.add("a.#", 1) || trie.add("a.#", 1) {
		t.Error("add should be true once")
	}
	if !trie.remove("a.#", 1) || trie.remove("a.#", 1) {
		t.Error("remove should be true once")
	}
	if got := trie.matches("a.b"); len(got) > 0 {
		t.Errorf("bound twice and unbound once, still matches %v", got)
	}
	for _, pattern := range []string{"a.#", "", "x.y.z", "*", "#"} {
		if trie.remove(pattern, 1) || trie.remove(pattern, 2) {
			t.Errorf("%q was never there", pattern)
		}
	}
}

func TestTrieVisitsAValueOnce(t *testing.T) {
	var trie topicTrie[int]
	patterns := []string{"a.b", "a.*", "*.b", "a.#", "#", "#.#", "#.b.#", "a.#.#.b"}
	for _, pattern := range patterns {
		trie.add(pattern, 1)
		trie.add(pattern, 2)
	}
	for range patterns {
		if got := trie.matches("a.b"); !slices.Equal(slices.Sorted(slices.Values(got)), []int{1, 2}) {
			t.Fatalf("%d overlapping bindings: visited %v, want 1 and 2 once each", len(patterns), got)
		}
	}
	// Patterns that mean the same are bindings of their own.
	trie.remove("#", 1)
	if got := trie.matches("z"); !slices.Contains(got, 1) {
		t.Error("removing # removed #.# as well")
	}
}

func TestTriePrunes(t *testing.T) {
	topics := allTopics(3)
	var trie topicTrie[int]
	for value := range 3 {
		for _, pattern := range topics {
			trie.add(pattern, value)
		}
	}
	ids := trie.marks
	for _, i := range rand.Perm(3 * len(topics)) {
		if !trie.remove(topics[i/3], i%3) {
			t.Fatalf("%q of %d was not there", topics[i/3], i%3)
		}
	}
	if r := &trie.root; len(r.plain)+len(r.values)+len(trie.values) > 0 || r.star != nil || r.hash != nil {
		t.Errorf("nothing is bound, and nodes are left: %+v", r)
	}
	slices.Sort(trie.free)
	if len(trie.free) != ids || len(slices.Compact(trie.free)) != ids {
		t.Errorf("%d of %d ids are free again", len(trie.free), ids)
	}
}

func TestTrieMatchesConcurrently(t *testing.T) {
	trie := bigTrie(1000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if got := trie.matches(fmt.Sprintf("k%d.x", i)); len(got) != 1 || got[0] != i {
					t.Errorf("k%d matches %v", i, got)
				}
			}
		})
	}
	wg.Wait()
}

// hardKey and the patterns of hardTrie make a backtracking matcher, or one
// that lets a node be active twice, exponential.
var hardKey = strings.Repeat("a.", 119) + "b"

func hardTrie() *topicTrie[int] {
	var trie topicTrie[int]
	trie.add("#.a.#.a.#.a.#.a.#.a.#.a", 1)
	trie.add("#.#.#.#.#.*.#.*.#.*.#.*.#.a", 2)
	trie.add("#.a.#.a.#.a.#.a.#.a.#.b", 3)
	return &trie
}

func TestTrieIsNeverExponential(t *testing.T) {
	matches := make(chan []int, 1)
	go func() { matches <- hardTrie().matches(hardKey) }()
	select {
	case got := <-matches:
		if !slices.Equal(got, []int{3}) {
			t.Errorf("matches %v, want 3", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("no answer within a minute")
	}
}

func TestTrieDoesNotAllocate(t *testing.T) {
	trie := bigTrie(100)
	count := 0
	visit := func(int) { count++ }
	// Not 0, for the race detector makes sync.Pool lose one in four walkers.
	if n := testing.AllocsPerRun(1000, func() { trie.match("k7.x", visit) }); n > 1 {
		t.Errorf("%v allocations per match", n)
	}
}

// FuzzTrie runs a script of bindings and keys against adapters.MatchTopic
// asked for each pattern. A line is "+pattern", "-pattern" or a key.
func FuzzTrie(f *testing.F) {
	f.Add("+a.#\n+#.b\na.b\n-a.#\na.b\nb")
	f.Add("+#\n+#.#\n+*\n\n+\n\n-#\n.\n..")
	f.Add("+#.a.#.b\n+#.a.#\n+#.#.b\na.b\na.a.b.b\n-#.a.#\na.b.a")
	f.Add("+a.*.b\n+a.*.#\n+a.#.*\n+*.*\na.x.b\na.b\na..b")
	f.Fuzz(func(t *testing.T, script string) {
		var trie topicTrie[string]
		var bound []string
		if len(script) > 1000 {
			return // matching each pattern with each key takes too long
		}
		for line := range strings.SplitSeq(script, "\n") {
			if pattern, ok := strings.CutPrefix(line, "+"); ok {
				if trie.add(pattern, pattern) == slices.Contains(bound, pattern) {
					t.Fatalf("add(%q) with %q bound", pattern, bound)
				}
				if !slices.Contains(bound, pattern) {
					bound = append(bound, pattern)
				}
			} else if pattern, ok := strings.CutPrefix(line, "-"); ok {
				i := slices.Index(bound, pattern)
				if trie.remove(pattern, pattern) != (i >= 0) {
					t.Fatalf("remove(%q) with %q bound", pattern, bound)
				}
				if i >= 0 {
					bound = slices.Delete(bound, i, i+1)
				}
			} else {
				checkAgainst(t, &trie, bound, line)
			}
		}
	})
}

// bigTrie has a binding "k<i>.#" for each i below n.
func bigTrie(n int) *topicTrie[int] {
	var trie topicTrie[int]
	for i := range n {
		trie.add(fmt.Sprintf("k%d.#", i), i)
	}
	return &trie
}

func BenchmarkTrie(b *testing.B) {
	words := func(i int) string {
		return fmt.Sprintf("%c.%c.%c.%c", 'a'+i%10, 'a'+i/10%10, 'a'+i/100%10, 'a'+i/1000%10)
	}
	for _, c := range []struct {
		name    string
		n       int
		key     string
		pattern func(i int) string
	}{
		{"one-of-10", 10, "k7.x", func(i int) string { return fmt.Sprintf("k%d.#", i) }},
		{"one-of-10000", 10_000, "k7777.weather.today", func(i int) string { return fmt.Sprintf("k%d.#", i) }},
		{"after-hash-10000", 10_000, "usa.weather.k7777", func(i int) string { return fmt.Sprintf("#.k%d", i) }},
		{"stars-10000", 10_000, "usa.k7777.today", func(i int) string { return fmt.Sprintf("*.k%d.*", i) }},
		{"mixed-10000", 10_000, "a.b.c.d", func(i int) string {
			return strings.Join(strings.Split(words(i), ".")[:1+i%4], ".") + []string{"", ".#", ".*"}[i%3]
		}},
		{"10-of-10000", 10_000, "k777.x", func(i int) string { return fmt.Sprintf("k%d.#", i%1000) }},
		{"all-of-10000", 10_000, "usa.weather", func(int) string { return "usa.#" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var trie topicTrie[int]
			for i := range c.n {
				trie.add(c.pattern(i), i)
			}
			count := 0
			visit := func(int) { count++ }
			b.ReportAllocs()
			for b.Loop() {
				trie.match(c.key, visit)
			}
			b.ReportMetric(float64(count)/float64(b.N), "visits/op")
		})
	}
	b.Run("hard", func(b *testing.B) {
		trie := hardTrie()
		b.ReportAllocs()
		for b.Loop() {
			trie.match(hardKey, func(int) {})
		}
	})
	b.Run("bind-unbind-among-10000", func(b *testing.B) {
		trie := bigTrie(10_000)
		b.ReportAllocs()
		for b.Loop() {
			trie.add("usa.*.#", 7)
			trie.remove("usa.*.#", 7)
		}
	})
}
