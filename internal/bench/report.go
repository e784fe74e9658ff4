package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// A Report is all that was measured.
type Report struct {
	Machine Machine
	Results []*Result
	Growths []*Growth
}

var (
	resultColumns = []string{
		"workload", "baseline", "ratio", "min..max", "CPU ratio", "broker CPU ratio", "p50 ratio", "msg/s", "theirs", "CPU us", "theirs", "broker CPU us", "theirs",
		"allocs", "theirs", "B", "theirs", "p50/p99 us", "theirs", "heap MiB", "theirs", "memory MiB", "theirs", "goroutines", "theirs", "target", "",
	}
	growthColumns = []string{"growth", "baseline", "sizes", "ours", "theirs", "each of the last", "theirs", "slope", "theirs", "target", ""}
)

func (r *Result) cells() []string {
	latency := func(s Sample) string {
		if s.P50 == 0 {
			return ""
		}
		return fmt.Sprintf("%.0f/%.0f", s.P50, s.P99)
	}
	mib := func(bytes float64) string { return fmt.Sprintf("%.1f", bytes/(1<<20)) }
	a, b := r.Ours, r.Theirs
	return []string{
		r.Workload, r.Baseline, fmt.Sprintf("%.2fx", r.Ratio), fmt.Sprintf("%.2f..%.2f", r.Min, r.Max), fmt.Sprintf("%.2fx", r.CPURatio), known("%.2fx", r.BrokerRatio), known("%.2fx", r.P50Ratio),
		fmt.Sprintf("%.0f", a.Rate), fmt.Sprintf("%.0f", b.Rate), fmt.Sprintf("%.2f", a.CPU), fmt.Sprintf("%.2f", b.CPU), known("%.1f", a.Broker), known("%.1f", b.Broker),
		fmt.Sprintf("%.1f", a.Allocs), fmt.Sprintf("%.1f", b.Allocs), fmt.Sprintf("%.0f", a.Bytes), fmt.Sprintf("%.0f", b.Bytes),
		latency(a), latency(b), mib(a.PeakHeap), mib(b.PeakHeap), mib(a.Memory), mib(b.Memory), fmt.Sprintf("%.0f", a.Goroutines), fmt.Sprintf("%.0f", b.Goroutines),
		r.Target, verdict(r.Met),
	}
}

// known renders a figure, if there is one.
func known(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func (g *Growth) cells() []string {
	list := func(values []float64) string {
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = short(v)
		}
		return strings.Join(texts, " ")
	}
	return []string{
		g.title(), g.Baseline, strings.Trim(fmt.Sprint(g.Sizes), "[]"), list(g.Ours), list(g.Theirs),
		short(g.OursEach), short(g.TheirsEach), named(g.OursSlope), named(g.TheirsSlope), g.Target, verdict(g.Met),
	}
}

func (g *Growth) title() string {
	title := strings.TrimPrefix(g.Curve, "growth/") + ": " + g.Figure
	if g.Unit != "" {
		title += ", " + g.Unit
	}
	return title
}

func verdict(met *bool) string {
	switch {
	case met == nil:
		return ""
	case *met:
		return "met"
	}
	return "NOT MET"
}

// short renders a number with three digits.
func short(v float64) string {
	for _, s := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= s.size {
			return fmt.Sprintf("%.3g%s", v/s.size, s.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}

// Print writes the tables for a terminal.
func (r *Report) Print(out io.Writer) {
	fmt.Fprintln(out, r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	r.tables(func(cells []string, _ bool) { fmt.Fprintln(w, strings.Join(cells, "\t")) })
	_ = w.Flush()
}

func (r *Report) tables(row func(cells []string, head bool)) {
	if len(r.Results) > 0 {
		row(resultColumns, true)
	}
	for _, result := range r.behindFirst() {
		row(result.cells(), false)
	}
	if len(r.Growths) > 0 {
		row(growthColumns, true)
	}
	for _, growth := range r.Growths {
		row(growth.cells(), false)
	}
}

// Write writes everything into a folder: results.jsonl, growth.jsonl,
// machine.json, the plots, and a page that shows them.
func (r *Report) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	plots, err := r.plots(folder)
	return errors.Join(err,
		writeLines(filepath.Join(folder, "results.jsonl"), r.Results),
		writeLines(filepath.Join(folder, "growth.jsonl"), r.Growths),
		writeLines(filepath.Join(folder, "machine.json"), []Machine{r.Machine}),
		os.WriteFile(filepath.Join(folder, "README.md"), r.page(plots), 0o644),
	)
}

func writeLines[T any](file string, lines []T) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// page shows the plots and the tables.
func (r *Report) page(plots []string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Results of make bench\n\nWritten by the run itself. %s.\n\n", r.Machine)
	fmt.Fprint(&out, "Each figure is the median of several runs, each in a process of its own, ours and the baseline in turn; a ratio is the\n"+
		"median of the pairs' ratios. More messages per second is better, less CPU is. What each workload does, and how the\nbaselines are written, is in the code beside this folder. Those that are behind, or miss their target, come first.\n")
	for _, name := range plots {
		fmt.Fprintf(&out, "\n![%s](%s.svg)\n", name, name)
	}
	r.tables(func(cells []string, head bool) {
		if head {
			fmt.Fprintln(&out)
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
		if head {
			fmt.Fprintln(&out, strings.Repeat("|---", len(cells))+"|")
		}
	})
	return out.Bytes()
}
