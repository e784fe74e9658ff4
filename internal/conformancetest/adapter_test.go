package conformancetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/motifmq/motif/conformance"
)

const root = "../.."

func TestUnexplained(t *testing.T) {
	a := Adapter{
		Notes:     map[string]string{"a/fails": "so", "a/passes": "so"},
		Sometimes: map[string]string{"c/fails": "so", "c/passes": "so"},
		Disorder:  "so",
	}
	r := conformance.Report{Results: []conformance.Result{
		{ID: "a/fails", Outcome: conformance.Fail},
		{ID: "b/fails", Outcome: conformance.Fail},
		{ID: "a/passes", Outcome: conformance.Pass},
		{ID: "b/passes", Outcome: conformance.Pass},
		{ID: "c/fails", Outcome: conformance.Fail},
		{ID: "c/passes", Outcome: conformance.Pass},
		{ID: "d/fails", Outcome: conformance.Fail, Why: []string{"it says", `the history has out of order: message "m-1"`}},
	}}
	got := a.Unexplained(r)
	if len(got) != 2 || !strings.Contains(got[0], "b/fails") || !strings.Contains(got[1], "a/passes") {
		t.Errorf("got %q", got)
	}
}

func TestUpdateTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := conformance.Matrix{{Adapter: "one"}}
	write("before\n" + tableBegin + "| old |\n" + tableEnd + "after\n")
	for range 2 { // then over its own
		if err := UpdateTable(file, m); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		want := "before\n" + tableBegin + "| rules | one |\n|---|---|\n| messages confirmed | 0 |\n| of them lost | 0 |\n" + tableEnd + "after\n"
		if err != nil || string(got) != want {
			t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
		}
	}
	for _, text := range []string{"", tableBegin, tableEnd, tableEnd + tableBegin} {
		write(text)
		if err := UpdateTable(file, m); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

// TestReportIsOfOneRun: the docs and the three forms of the report say the same.
func TestReportIsOfOneRun(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var m conformance.Matrix
	if err := json.Unmarshal([]byte(read("docs/conformance/report.json")), &m); err != nil {
		t.Fatal(err)
	}
	var table, text strings.Builder
	if err := m.WriteMarkdown(&table); err != nil {
		t.Fatal(err)
	}
	if _, got, _, err := cutTable(read("docs/writing-an-adapter.md")); err != nil || got != table.String() {
		t.Errorf("%v, the table in docs/writing-an-adapter.md is not that of report.json", err)
	}
	if err := m.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if read("docs/conformance/report.txt") != text.String() {
		t.Error("report.txt is not that of report.json")
	}
	html := read("docs/conformance/index.html")
	for _, r := range m {
		if len(r.Results) == 0 || !strings.Contains(html, r.Adapter) || !strings.Contains(html, r.About) {
			t.Errorf("index.html is not that of report.json: %s", r.Adapter)
		}
	}
	for name, written := range map[string]string{"report.txt": text.String(), "index.html": html} {
		for _, path := range []string{"/tmp/", "/home/", "/root/", "/usr/"} {
			if strings.Contains(written, path) {
				t.Errorf("%s names a folder of the machine that it was made on, below %s", name, path)
			}
		}
	}
}
