package conformance

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the rules into doc.go")

// The package's documentation lists the rules.
func TestRules(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "// This list is what [Cases] returns.\n", "package conformance\n"
	head, _, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatalf("doc.go has no line %q", begin)
	}
	want := head + begin + rules(Cases()) + end
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatal("doc.go does not list the rules as they are: go test ./conformance -run TestRules -update")
	}
	if err := os.WriteFile("doc.go", []byte(want), 0o644); err != nil { //nolint:gosec // it is source
		t.Fatal(err)
	}
}

// Rules are sentences, and every ID is an area and a name that nobody else has.
func TestRulesAreSentences(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		area, name, found := strings.Cut(c.ID, "/")
		if !found || area == "" || name == "" || strings.ToLower(c.ID) != c.ID || seen[c.ID] {
			t.Errorf("%q is no ID of its own", c.ID)
		}
		seen[c.ID] = true
		if first := c.Rule[:1]; strings.ToUpper(first) != first || !strings.HasSuffix(c.Rule, ".") {
			t.Errorf("%s: %q is no sentence", c.ID, c.Rule)
		}
	}
}

// Each case fails some adapter, or it would assert nothing.
func TestEveryCaseKillsAMutant(t *testing.T) {
	for _, c := range Cases() {
		if !slices.ContainsFunc(mutants, func(x mutant) bool { return x.caught == c.ID }) {
			t.Errorf("no mutant is caught by %s", c.ID)
		}
	}
}

// rules lists rules as a doc comment, by area.
func rules(cases []Case) string {
	var b strings.Builder
	area := ""
	for _, c := range cases {
		if c.Area() != area {
			area = c.Area()
			fmt.Fprintf(&b, "//\n// %s:\n//\n", area)
		}
		text := c.ID + ": " + c.Rule
		for prefix := "//   - "; text != ""; prefix = "//     " {
			var line string
			line, text = wrap(text, 100-len(prefix))
			b.WriteString(prefix + line + "\n")
		}
	}
	return b.String()
}

// wrap cuts text at the last space that leaves at most n bytes before it, or
// else at the first.
func wrap(text string, n int) (line, rest string) {
	if len(text) <= n {
		return text, ""
	}
	i := strings.LastIndexByte(text[:n+1], ' ')
	if i < 0 {
		if i = strings.IndexByte(text, ' '); i < 0 {
			return text, ""
		}
	}
	return text[:i], text[i+1:]
}
