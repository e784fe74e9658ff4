package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// Outcome is what came of one case.
type Outcome string

// The outcomes.
const (
	Pass          Outcome = "pass"           // the rule holds
	Fail          Outcome = "fail"           // it does not
	Refused       Outcome = "refused"        // not claimed, and refused in the adapter's name when asked for
	NotClaimed    Outcome = "not claimed"    // not claimed, and nothing that a program could ask for
	NotApplicable Outcome = "not applicable" // the harness lacks a hook
	NotRun        Outcome = "not run"        // the run ended first
)

// Result is what came of one case.
type Result struct {
	ID      string         `json:"id"`
	Rule    string         `json:"rule"`
	Outcome Outcome        `json:"outcome"`
	Why     []string       `json:"why,omitempty"` // of a failure, each a sentence; of others, what is missing
	Counts  history.Counts `json:"counts,omitzero"`
	Took    time.Duration  `json:"took_ns,omitzero"`
}

// Report is what came of a run of the suite.
type Report struct {
	Adapter string        `json:"adapter"`
	Claims  []string      `json:"claims"` // the names of abilities
	Began   time.Time     `json:"began,omitzero"`
	Took    time.Duration `json:"took_ns,omitzero"`
	Results []Result      `json:"results"` // in the order of Cases

	// About and Notes are for whoever makes the report, to tell readers what was
	// tested, and by the ID of the case why it failed.
	About string            `json:"about,omitempty"`
	Notes map[string]string `json:"notes,omitempty"`
}

// Count returns how many cases came to an outcome.
func (r *Report) Count(o Outcome) (n int) {
	for _, result := range r.Results {
		if result.Outcome == o {
			n++
		}
	}
	return n
}

// Totals returns the counts of all cases together.
func (r *Report) Totals() (sum history.Counts) {
	for _, result := range r.Results {
		sum.Add(result.Counts)
	}
	return sum
}

// Passed reports whether all cases were run and none failed.
func (r *Report) Passed() bool { return r.Count(Fail)+r.Count(NotRun) == 0 }

// Find returns the result of the case with that ID, or nil.
func (r *Report) Find(id string) *Result {
	i := slices.IndexFunc(r.Results, func(result Result) bool { return result.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Results[i]
}

// WriteJSON writes the report as JSON, indented.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// WriteHTML writes the report as one page, see [Matrix.WriteHTML].
func (r *Report) WriteHTML(w io.Writer) error { return Matrix{*r}.WriteHTML(w) }

// WriteText writes a line for each case, the reasons of those that did not
// pass, and a summary.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, result := range r.Results {
		fmt.Fprintf(&b, "%-14s  %s  %v\n", result.Outcome, result.ID, result.Took.Round(time.Millisecond))
		if result.Outcome == Fail {
			r.writeFailure(&b, result)
			continue
		}
		for _, why := range result.Why {
			fmt.Fprintf(&b, "    %s\n", why)
		}
	}
	b.WriteString(r.Summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeFailure writes the violated sentence, what the case saw, and what there
// is to say about it.
func (r *Report) writeFailure(b *strings.Builder, result Result) {
	fmt.Fprintf(b, "    violated: %s\n", result.Rule)
	for _, why := range result.Why {
		fmt.Fprintf(b, "    %s\n", strings.ReplaceAll(strings.TrimSpace(why), "\n", "\n    "))
	}
	if note := r.Notes[result.ID]; note != "" {
		fmt.Fprintf(b, "    note: %s\n", note)
	}
}

// Summary returns the outcome of the whole run in one line.
func (r *Report) Summary() string {
	c := r.Totals()
	s := fmt.Sprintf("%s: %d passed, %d failed, %d refused, %d not claimed, %d not applicable, in %v; messages: %d attempted, %d confirmed, %d delivered, %d duplicated, %d lost",
		r.Adapter, r.Count(Pass), r.Count(Fail), r.Count(Refused), r.Count(NotClaimed), r.Count(NotApplicable), r.Took.Round(time.Millisecond),
		c.Attempted, c.Confirmed, c.Delivered, c.Duplicated, c.Lost)
	if n := r.Count(NotRun); n > 0 {
		s += fmt.Sprintf("; %d were not run", n)
	}
	return s
}
