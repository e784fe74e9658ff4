package conformance

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// Matrix is the reports of several adapters, to be read beside each other.
type Matrix []Report

// rules are the cases of all reports, in the order of the first.
func (m Matrix) rules() (rules []Result) {
	known := map[string]bool{}
	for _, report := range m {
		for _, result := range report.Results {
			if !known[result.ID] {
				known[result.ID] = true
				rules = append(rules, result)
			}
		}
	}
	return rules
}

// areas are those of the rules, each once.
func (m Matrix) areas() (areas []string) {
	for _, rule := range m.rules() {
		if area := (Case{ID: rule.ID}).Area(); !slices.Contains(areas, area) {
			areas = append(areas, area)
		}
	}
	return areas
}

// WriteJSON writes the reports as a JSON array, indented.
func (m Matrix) WriteJSON(w io.Writer) error { return writeJSON(w, m) }

// WriteText writes a line for each rule with a column for each adapter, what
// became of the messages, and then every failure.
func (m Matrix) WriteText(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(first string, cell func(*Report) string) {
		cells := []string{first}
		for i := range m {
			cells = append(cells, cell(&m[i]))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row("rule", func(r *Report) string { return r.Adapter })
	for _, rule := range m.rules() {
		row(rule.ID, func(r *Report) string {
			result := r.Find(rule.ID)
			switch {
			case result == nil:
				return ""
			case result.Outcome == Fail:
				return "FAIL"
			}
			return string(result.Outcome)
		})
	}
	row("", func(*Report) string { return "" })
	for _, f := range m.figures() {
		row(f.about+": "+f.name, f.of)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range m {
		r := &m[i]
		fmt.Fprintf(&b, "\n%s: %s\nclaims: %s\n", r.Adapter, cmp.Or(r.About, "no description"), cmp.Or(strings.Join(r.Claims, ", "), "nothing"))
		for _, result := range r.Results {
			if result.Outcome == Fail {
				fmt.Fprintf(&b, "FAIL %s\n", result.ID)
				r.writeFailure(&b, result)
			}
		}
	}
	text := strings.Split(b.String(), "\n")
	for i := range text {
		text[i] = strings.TrimRight(text[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(text, "\n"))
	return err
}

// WriteMarkdown writes a table with a line for each area of rules and a column for
// each adapter.
func (m Matrix) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	row := func(first string, cell func(*Report) string) {
		b.WriteString("| " + first + " |")
		for i := range m {
			b.WriteString(" " + cell(&m[i]) + " |")
		}
		b.WriteString("\n")
	}
	row("rules", func(r *Report) string { return r.Adapter })
	b.WriteString("|---|" + strings.Repeat("---|", len(m)) + "\n")
	for _, area := range m.areas() {
		row(area, func(r *Report) string { return r.tally(area) })
	}
	row("messages confirmed", func(r *Report) string { return fmt.Sprint(r.Totals().Confirmed) })
	row("of them lost", func(r *Report) string { return fmt.Sprint(r.Totals().Lost) })
	_, err := io.WriteString(w, b.String())
	return err
}

// tally says how the cases of an area came out.
func (r *Report) tally(area string) string {
	count := map[Outcome]int{}
	for _, result := range r.Results {
		if (Case{ID: result.ID}).Area() == area {
			count[result.Outcome]++
		}
	}
	var parts []string
	for _, o := range allOutcomes {
		if n := count[o]; n > 0 && o == Fail {
			parts = append(parts, fmt.Sprintf("**%d fail**", n))
		} else if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

var allOutcomes = []Outcome{Pass, Fail, Refused, NotClaimed, NotApplicable, NotRun}

// figure is a number that each report has, about rules, messages or the run.
type figure struct {
	about, name string
	of          func(*Report) string
}

func (m Matrix) figures() (figures []figure) {
	for _, o := range allOutcomes {
		if o != NotRun || slices.ContainsFunc(m, func(r Report) bool { return r.Count(NotRun) > 0 }) {
			figures = append(figures, figure{"rules", string(o), func(r *Report) string { return fmt.Sprint(r.Count(o)) }})
		}
	}
	for _, c := range []struct {
		name string
		of   func(history.Counts) int
	}{
		{"attempted", func(c history.Counts) int { return c.Attempted }},
		{"confirmed", func(c history.Counts) int { return c.Confirmed }},
		{"unknown", func(c history.Counts) int { return c.Unknown }},
		{"delivered", func(c history.Counts) int { return c.Delivered }},
		{"duplicated", func(c history.Counts) int { return c.Duplicated }},
		{"lost", func(c history.Counts) int { return c.Lost }},
	} {
		figures = append(figures, figure{"messages", c.name, func(r *Report) string { return fmt.Sprint(c.of(r.Totals())) }})
	}
	return append(figures, figure{"run", "time", func(r *Report) string { return r.Took.Round(time.Second).String() }})
}
