package floors

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxWidth is the width at which comments are wrapped, in columns, with tabs of tabWidth.
const maxWidth, tabWidth = 100, 4

// preformatted is a comment that is no prose: a directive, or text that is indented by a tab.
var preformatted = regexp.MustCompile(`^\s*//(\t|go:|nolint)`)

// TestCommentsAreWrapped: a comment on lines of its own that was edited is wrapped again.
func TestCommentsAreWrapped(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && file != root && (name == "testdata" || strings.HasPrefix(name, ".")) {
			return fs.SkipDir
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		checked++
		for i, line := range tooWide(string(source)) {
			t.Errorf("%s:%d: a comment of more than %d columns: %s", below, i, maxWidth, strings.TrimSpace(line))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Error("no file was found: the search is broken")
	}
}

// tooWide returns the lines, by number, that are comments, prose, and too wide.
func tooWide(source string) map[int]string {
	wide := make(map[int]string)
	output := false // of an Example, which is as it is
	for i, line := range strings.Split(source, "\n") {
		comment, isComment := strings.CutPrefix(strings.TrimSpace(line), "// ")
		output = isComment && (output || strings.HasPrefix(comment, "Output:") || strings.HasPrefix(comment, "Unordered output:"))
		if output {
			continue
		}
		columns := utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
		if strings.HasPrefix(strings.TrimSpace(line), "//") && columns > maxWidth && !preformatted.MatchString(line) && strings.Contains(strings.TrimLeft(line, "\t/ "), " ") {
			wide[i+1] = line
		}
	}
	return wide
}

func TestTooWide(t *testing.T) {
	words := strings.TrimSpace(strings.Repeat("words ", 20))
	for comment, want := range map[string]bool{
		"// " + words[:maxWidth-3]:               false,
		"// " + words[:maxWidth-3] + "é":         true,
		"\t// " + words[:maxWidth-7]:             false,
		"\t// " + words[:maxWidth-6]:             true,
		"//\t" + words:                           false,
		"//nolint:all // " + words:               false,
		"// https://" + strings.Repeat("a", 200): false,
		"x := 1 // " + words:                     false,
		"// Output:\n// " + words:                false,
		"// Output:\n}\n// " + words:             true,
	} {
		if got := len(tooWide("package x\n"+comment)) > 0; got != want {
			t.Errorf("%q is too wide: %v, want %v", comment, got, want)
		}
	}
}
