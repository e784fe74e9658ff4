package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// table collects the verdicts of the rows that were run. All others are in it
// as not run, so that nobody takes them for passed.
type table struct {
	mu      sync.Mutex
	results map[int]result
}

type result struct {
	verdict history.Verdict
	state   string
	took    time.Duration
}

// States of a row.
const (
	notRun  = "not run"
	skipped = "skipped"
	passed  = "ok"
	failed  = "FAILED"
)

func (t *table) set(number int, r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.results == nil {
		t.results = map[int]result{}
	}
	t.results[number] = r
}

// String renders the table, with all rows that there are.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "row\tattempted\tconfirmed\tunknown\tdelivered\tduplicated\tunexpected\tlost\tmax gap\ttook\t\t fault")
	var total history.Verdict
	counts := map[string]int{}
	for _, row := range rows {
		r, ok := t.results[row.number]
		if !ok {
			r.state = notRun
		}
		counts[r.state]++
		if r.state == notRun || r.state == skipped {
			_, _ = fmt.Fprintf(w, "%d\t-\t-\t-\t-\t-\t-\t-\t-\t-\t%s\t %s\n", row.number, r.state, row.fault)
			continue
		}
		v := r.verdict
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", row.number, cells(v), r.took.Round(100*time.Millisecond), r.state, " "+row.fault)
		total.Add(v.Counts)
		total.Unexpected += v.Unexpected
		total.Gap = max(total.Gap, v.Gap)
	}
	_, _ = fmt.Fprintf(w, "all\t%s\t\t\t %d of %d rows run, %d failed\n",
		cells(total), counts[passed]+counts[failed], len(rows), counts[failed])
	_ = w.Flush()
	return b.String()
}

// cells renders the numbers of a verdict.
func cells(v history.Verdict) string {
	gap := "-"
	if v.Delivered > 1 {
		gap = v.Gap.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s",
		v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost, gap)
}

func TestTableTellsWhatWasNotRun(t *testing.T) {
	var results table
	results.set(rows[0].number, result{verdict: history.Verdict{Counts: history.Counts{Attempted: 7}}, state: passed})
	results.set(rows[1].number, result{verdict: history.Verdict{Counts: history.Counts{Lost: 3}}, state: failed})
	results.set(rows[2].number, result{state: skipped})
	text := results.String()
	lines := strings.Split(text, "\n")
	for i, want := range []string{passed, failed, skipped, notRun} {
		if !strings.Contains(lines[i+1], want+" ") {
			t.Errorf("row %d is %q, want it to be %s", rows[i].number, lines[i+1], want)
		}
	}
	if want := fmt.Sprintf("2 of %d rows run, 1 failed", len(rows)); !strings.Contains(text, want) {
		t.Errorf("the last line is not %q:\n%s", want, text)
	}
}
