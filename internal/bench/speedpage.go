package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// tableEnd marks the end of each table.
const tableEnd = "<!-- bench: end -->\n"

// tableBegin marks the beginning of one, which the name of its make target tells from others.
func tableBegin(target string) string { return "<!-- bench: written by make " + target + " -->\n" }

// updatePage puts the table of ratios between the two marks of a place, FILE#TARGET.
func (r *Report) updatePage(place string) error {
	file, target, _ := strings.Cut(place, "#")
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, err := cutTable(string(old), target)
	if err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return os.WriteFile(file, []byte(before+r.ratios()+after), 0o644)
}

// cutTable cuts a page into the table and what is before and after it, marks included.
func cutTable(page, target string) (before, table, after string, err error) {
	before, rest, found := strings.Cut(page, tableBegin(target))
	table, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return "", "", "", errors.New("no place for the table")
	}
	return before + tableBegin(target), table, tableEnd + after, nil
}

// behind reports whether the ratio, as it is printed, is below 1, or the target is not met.
func behind(r *Result) bool { return r.Ratio < 0.995 || r.Met != nil && !*r.Met }

// behindFirst returns the results that are behind, the lowest ratio at the top, and then the others
// in the order of the workloads.
func (r *Report) behindFirst() []*Result {
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
	return results
}

// ratios is the table of all ratios, with what they should be.
func (r *Report) ratios() string {
	var out bytes.Buffer
	fmt.Fprint(&out, "| Workload | Beside | Messages a second (pairs) | CPU a message | The broker's | Median latency | Target |\n|---|---|---|---|---|---|---|\n")
	for _, result := range r.behindFirst() {
		baseline := result.Baseline
		if result.Limit {
			baseline = "*" + baseline + "*"
		}
		target := result.Target
		if target != "" {
			target += ": " + verdict(result.Met)
		}
		fmt.Fprintf(&out, "| %s | %s | **%.2fx** (%.2f..%.2f) | %.2fx | %s | %s | %s |\n",
			strings.Replace(result.Workload, "/", ": ", 1), baseline, result.Ratio, result.Min, result.Max, result.CPURatio,
			known("%.2fx", result.BrokerRatio), known("%.2fx", result.P50Ratio), target)
	}
	fmt.Fprintf(&out, "\n%s.\n", r.Machine)
	return out.String()
}
