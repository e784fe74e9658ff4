package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const speedPage = "../../docs/speed.md"

var update = flag.Bool("update", false, "write the table of "+speedPage+" anew from the results")

// TestSpeedPageIsOfTheResults: the page shows what the last whole run measured, and all of it.
func TestSpeedPageIsOfTheResults(t *testing.T) {
	r := &Report{Results: readLines[*Result](t, "results.jsonl"), Machine: readLines[Machine](t, "machine.json")[0]}
	if *update {
		if err := r.updatePage(speedPage + "#bench"); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(speedPage)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _, err := cutTable(string(page), "bench")
	if err != nil || table != r.ratios() {
		t.Errorf("%v; the table of %s is not that of the results: go test -run SpeedPage -update .", err, speedPage)
	}
	begin := tableBegin("bench")
	for _, text := range []string{"", begin, tableEnd, tableEnd + begin, tableBegin("bench-old") + tableEnd} {
		if _, _, _, err := cutTable(text, "bench"); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

// TestBehindComesFirst: or what misses its target; and what is not behind keeps its order, however
// much of it there is.
func TestBehindComesFirst(t *testing.T) {
	r := &Report{}
	missed := false
	for i, ratio := range []float64{2, 0.9, 1, 0.5, 0.996, 1.1, 3, 1, 2, 1, 0.994, 5, 1, 1, 2, 1, 4, 1} {
		r.Results = append(r.Results, &Result{Workload: string(rune('a' + i)), Ratio: ratio})
	}
	r.Results[11].Target, r.Results[11].Met = "CPU <= 0.5x", &missed // faster, and behind all the same
	var order strings.Builder
	for line := range strings.Lines(r.ratios()) {
		if name := strings.TrimPrefix(line, "| "); name != line && name[1] == ' ' {
			order.WriteByte(name[0])
		}
	}
	if want := "dbkl" + "acefghijmnopqr"; order.String() != want {
		t.Errorf("in the order %s, want %s", order.String(), want)
	}
}

func readLines[T any](t *testing.T, name string) (lines []T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("results", name))
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var line T
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return lines
		} else if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
}
