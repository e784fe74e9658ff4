package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	tableBegin = "<!-- bench: written by make bench -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// updateReadme puts what has a target, or shows a limit, between the two marks of a file.
func (r *Report) updateReadme(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return errors.New(file + " has no place for the table")
	}
	return os.WriteFile(file, []byte(before+tableBegin+r.summary()+tableEnd+after), 0o644)
}

// summary is a table of ratios.
func (r *Report) summary() string {
	var out bytes.Buffer
	fmt.Fprint(&out, "| workload | beside | messages a second (pairs) | CPU a message | median latency |\n|---|---|---|---|---|\n")
	for _, result := range r.Results {
		baseline := result.Baseline
		switch {
		case result.Limit:
			baseline = "*" + baseline + "*"
		case result.Target == "":
			continue
		}
		p50 := ""
		if result.P50Ratio != 0 {
			p50 = fmt.Sprintf("%.2fx", result.P50Ratio)
		}
		fmt.Fprintf(&out, "| %s | %s | **%.2fx** (%.2f..%.2f) | %.2fx | %s |\n",
			strings.Replace(result.Workload, "/", ": ", 1), baseline, result.Ratio, result.Min, result.Max, result.CPURatio, p50)
	}
	fmt.Fprintf(&out, "\n%s.\n", r.Machine)
	return out.String()
}
