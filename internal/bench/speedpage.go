package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	tableBegin = "<!-- bench: written by make bench -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// updatePage puts the table of ratios between the two marks of a file.
func (r *Report) updatePage(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, err := cutTable(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(before+r.ratios()+after), 0o644)
}

// cutTable cuts a page into the table and what is before and after it, marks included.
func cutTable(page string) (before, table, after string, err error) {
	before, rest, found := strings.Cut(page, tableBegin)
	table, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return "", "", "", errors.New("no place for the table")
	}
	return before + tableBegin, table, tableEnd + after, nil
}

// behind reports whether the ratio, as it is printed, is below 1.
func behind(r *Result) bool { return r.Ratio < 0.995 }

// ratios is the table of all ratios: those below 1 first, the lowest of them at the top, and the
// others in the order of the workloads.
func (r *Report) ratios() string {
	results := slices.Clone(r.Results)
	slices.SortStableFunc(results, func(a, b *Result) int {
		switch {
		case behind(a) && behind(b) && a.Ratio < b.Ratio, behind(a) && !behind(b):
			return -1
		case behind(a) && behind(b) && a.Ratio > b.Ratio, behind(b) && !behind(a):
			return 1
		}
		return 0
	})
	var out bytes.Buffer
	fmt.Fprint(&out, "| Workload | Beside | Messages a second (pairs) | CPU a message | The broker's | Median latency |\n|---|---|---|---|---|---|\n")
	for _, result := range results {
		baseline := result.Baseline
		if result.Limit {
			baseline = "*" + baseline + "*"
		}
		fmt.Fprintf(&out, "| %s | %s | **%.2fx** (%.2f..%.2f) | %.2fx | %s | %s |\n",
			strings.Replace(result.Workload, "/", ": ", 1), baseline, result.Ratio, result.Min, result.Max, result.CPURatio,
			known("%.2fx", result.BrokerRatio), known("%.2fx", result.P50Ratio))
	}
	fmt.Fprintf(&out, "\n%s.\n", r.Machine)
	return out.String()
}
