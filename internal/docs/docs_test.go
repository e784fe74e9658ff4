package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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

// goFiles returns the text of every Go file, by its name.
func goFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".go") && !entry.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[path] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestProgramsAreCompiled(t *testing.T) {
	files := goFiles(t)
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(programs) < 3 {
		t.Fatalf("%d programs found", len(programs))
	}
	for _, p := range programs {
		found := false
		for _, text := range files {
			found = found || strings.Contains(flat(text), flat(p[1]))
		}
		if !found {
			t.Errorf("no file holds this program of the README:\n%s", p[1])
		}
	}
}

// flat drops the indentation, of which a program has more in its file.
func flat(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "\n")
}

func TestNamedTestsExist(t *testing.T) {
	var tests strings.Builder
	for name, text := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			tests.WriteString(text)
		}
	}
	for _, doc := range []string{"README.md", "DESIGN.md"} {
		names := regexp.MustCompile(`\b(Test|Example|Benchmark|Fuzz)[A-Z]\w+`).FindAllString(read(t, doc), -1)
		if len(names) == 0 {
			t.Errorf("%s names no tests", doc)
		}
		for _, name := range names {
			if !strings.Contains(tests.String(), "func "+name+"(") {
				t.Errorf("%s names %s, which does not exist", doc, name)
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range []string{"README.md", "DESIGN.md", "CHANGELOG.md"} {
		prose := regexp.MustCompile("(?s)```.*?```|`[^`]*`").ReplaceAllString(read(t, doc), "")
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(prose, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, link[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, link[1], err)
			}
		}
	}
}
