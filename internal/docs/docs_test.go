package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// filesNamed returns the text of every file with a suffix, by its path below the root, with
// slashes.
func filesNamed(t *testing.T, suffix string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != root:
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, suffix):
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, name)
		files[filepath.ToSlash(below)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// pages returns the text of every page that is written by hand, by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	pages := filesNamed(t, ".md")
	for name := range pages {
		if strings.HasPrefix(name, "findings/") || strings.HasPrefix(name, "internal/bench/results/") {
			delete(pages, name)
		}
	}
	if len(pages) < 15 {
		t.Fatalf("%d pages found: the search is broken", len(pages))
	}
	return pages
}

// TestProgramsAreCompiled: each block of Go in a page is a piece of a file that is compiled.
func TestProgramsAreCompiled(t *testing.T) {
	var files []string
	for _, text := range filesNamed(t, ".go") {
		files = append(files, flat(text))
	}
	blocks := 0
	for name, text := range pages(t) {
		for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
			blocks++
			program := flat(block[1])
			if !slices.ContainsFunc(files, func(file string) bool { return strings.Contains(file, program) }) {
				t.Errorf("%s: no file holds this program:\n%s", name, block[1])
			}
		}
	}
	if blocks < 20 {
		t.Errorf("%d programs found: the search is broken", blocks)
	}
}

// flat drops the indentation, of which a program has more in its file, and less in a list.
func flat(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, " \t")
	}
	return strings.Join(lines, "\n")
}

// TestNamedTestsExist: a test, example or benchmark that a page names is there.
func TestNamedTestsExist(t *testing.T) {
	var tests strings.Builder
	for name, text := range filesNamed(t, ".go") {
		if strings.HasSuffix(name, "_test.go") {
			tests.WriteString(text)
		}
	}
	named := 0
	for page, text := range pages(t) {
		text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
		for _, name := range regexp.MustCompile(`\b(?:Test|Example|Benchmark|Fuzz)[A-Z]\w+`).FindAllString(text, -1) {
			named++
			if !strings.Contains(tests.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	if named < 50 {
		t.Errorf("%d tests are named: the search is broken", named)
	}
}

// TestLinksLeadSomewhere: a link to a file or a folder of the tree, or to a heading, leads there.
func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for name, text := range pages(t) {
		prose := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllStringFunc(text, func(code string) string {
			return strings.Repeat("x", len(code)) // a link's text may be code
		})
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(link[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", name, link[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", name, link[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links found: the search is broken", links)
	}
}

// anchors returns what GitHub makes of a page's headings.
func anchors(text string) (all []string) {
	text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(anchor, " ", "-"))
	}
	return all
}

// TestNamedFilesExist: a Go file that a page names by its path is there; AREA stands for any word.
func TestNamedFilesExist(t *testing.T) {
	named := 0
	for page, text := range pages(t) {
		for _, code := range regexp.MustCompile("`(\\w+(?:/[\\w.]+)*/\\w+\\.go)`").FindAllStringSubmatch(text, -1) {
			named++
			pattern := strings.ReplaceAll(code[1], "AREA", "*")
			if found, err := filepath.Glob(filepath.Join(root, pattern)); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which does not exist", page, code[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("%d files are named: the search is broken", named)
	}
}

// TestReadmeIsShort: who opens it has a few minutes.
func TestReadmeIsShort(t *testing.T) {
	if n := len(strings.Fields(read(t, "README.md"))); n > 1000 {
		t.Errorf("README.md has %d words, at most 1000 are read", n)
	}
}

// TestIndexesAreComplete: the index of the docs has every page, and that of the examples every
// example.
func TestIndexesAreComplete(t *testing.T) {
	for _, index := range []struct{ folder, ext string }{{"docs", ".md"}, {"examples", ""}} {
		text := read(t, index.folder+"/README.md")
		entries, err := os.ReadDir(filepath.Join(root, index.folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := e.Name()
			if name == "README.md" || name == "internal" || path.Ext(name) != index.ext {
				continue
			}
			if !strings.Contains(text, "]("+name+")") {
				t.Errorf("%s/README.md has no link to %s", index.folder, name)
			}
		}
	}
}

// TestMapIsTrue: each file and folder that the map of DESIGN.md names exists, and each name that
// stands behind a file is declared in it.
func TestMapIsTrue(t *testing.T) {
	_, rest, ok := strings.Cut(read(t, "DESIGN.md"), "\n## Where to look\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	if !ok {
		t.Fatal("DESIGN.md has no section Where to look")
	}
	questions := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 2 || !strings.HasSuffix(strings.TrimSpace(cells[0]), "?") {
			continue
		}
		questions++
		file := ""
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			name := code[1]
			if strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "/") {
				file = name
				if _, err := os.Stat(filepath.Join(root, file)); err != nil {
					t.Errorf("the map says %s: %v", file, err)
					file = ""
				}
				continue
			}
			if strings.HasSuffix(file, ".go") && !declares(read(t, file), name) {
				t.Errorf("the map says that %s declares %s, which it does not", file, name)
			}
		}
	}
	if questions < 15 {
		t.Errorf("the map answers %d questions: the search is broken", questions)
	}
}

// declares reports whether a Go file has a function, type or constant of this name, or a method
// Type.name.
func declares(text, name string) bool {
	declaration := `(?m)^(func|type|const|var|\t)\s*` + regexp.QuoteMeta(name) + `\b`
	if of, method, ok := strings.Cut(name, "."); ok {
		declaration = `(?m)^func \((\w+ )?\*?` + regexp.QuoteMeta(of) + `(\[\w+(, \w+)*\])?\) ` + regexp.QuoteMeta(method) + `\(`
	}
	return regexp.MustCompile(declaration).MatchString(text)
}
