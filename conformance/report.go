package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/motifmq/motif/adapters"
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

// Counts are a case's messages, by the history checker.
type Counts struct {
	Attempted  int `json:"attempted"`
	Confirmed  int `json:"confirmed"`
	Unknown    int `json:"unknown"`
	Delivered  int `json:"delivered"`
	Duplicated int `json:"duplicated"`
	Lost       int `json:"lost"`
}

func (c *Counts) add(o Counts) {
	c.Attempted += o.Attempted
	c.Confirmed += o.Confirmed
	c.Unknown += o.Unknown
	c.Delivered += o.Delivered
	c.Duplicated += o.Duplicated
	c.Lost += o.Lost
}

// Result is what came of one case.
type Result struct {
	ID      string        `json:"id"`
	Rule    string        `json:"rule"`
	Outcome Outcome       `json:"outcome"`
	Why     []string      `json:"why,omitempty"` // of a failure, each a sentence; of others, what is missing
	Counts  Counts        `json:"counts"`
	Took    time.Duration `json:"took_ns"`
}

// Report is what came of a run of the suite.
type Report struct {
	Adapter string            `json:"adapter"`
	Claims  adapters.Features `json:"claims"`
	Began   time.Time         `json:"began"`
	Took    time.Duration     `json:"took_ns"`
	Results []Result          `json:"results"` // in the order of Cases
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
func (r *Report) Totals() (sum Counts) {
	for _, result := range r.Results {
		sum.add(result.Counts)
	}
	return sum
}

// Passed tells whether all cases were run and none failed.
func (r *Report) Passed() bool { return r.Count(Fail)+r.Count(NotRun) == 0 }

// WriteJSON writes the report as JSON, indented.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes a line for each case, the reasons of those that did not
// pass, and a summary.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, result := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%v\n", result.Outcome, result.ID, result.Took.Round(time.Millisecond))
		if result.Outcome == Fail {
			fmt.Fprintf(t, "\t  violated: %s\n", result.Rule)
		}
		for _, why := range result.Why {
			fmt.Fprintf(t, "\t  %s\n", strings.ReplaceAll(strings.TrimSpace(why), "\n", "\n\t  "))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteString(r.Summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Summary returns the outcome of the whole run in one line.
func (r *Report) Summary() string {
	c := r.Totals()
	return fmt.Sprintf("%s: %d passed, %d failed, %d refused, %d not claimed, %d not applicable, in %v; messages: %d attempted, %d confirmed, %d delivered, %d duplicated, %d lost",
		r.Adapter, r.Count(Pass), r.Count(Fail), r.Count(Refused), r.Count(NotClaimed), r.Count(NotApplicable), r.Took.Round(time.Millisecond),
		c.Attempted, c.Confirmed, c.Delivered, c.Duplicated, c.Lost)
}
