package faults

import (
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// table collects the verdicts of the rows that were run. All others are in it
// as not run, so that nobody takes them for passed.
type table struct {
	mu      sync.Mutex
	results map[int]result
}

type result struct {
	verdict Verdict
	state   string // "ok", "FAILED", or why it was skipped
	took    time.Duration
}

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
	var total Verdict
	run, failed := 0, 0
	for _, row := range rows {
		r, ok := t.results[row.number]
		if !ok {
			_, _ = fmt.Fprintf(w, "%d\t-\t-\t-\t-\t-\t-\t-\t-\t-\tnot run\t %s\n", row.number, row.fault)
			continue
		}
		if r.state == "FAILED" {
			failed++
		}
		run++
		v := r.verdict
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", row.number, &v, r.took.Round(100*time.Millisecond), r.state, " "+row.fault)
		total.Attempted += v.Attempted
		total.Confirmed += v.Confirmed
		total.Unknown += v.Unknown
		total.Delivered += v.Delivered
		total.Duplicated += v.Duplicated
		total.Unexpected += v.Unexpected
		total.Lost += v.Lost
		total.Gap = max(total.Gap, v.Gap)
	}
	_, _ = fmt.Fprintf(w, "all\t%s\t\t\t %d of %d rows run, %d failed\n", &total, run, len(rows), failed)
	_ = w.Flush()
	return b.String()
}

// String renders the numbers as cells of the table.
func (v *Verdict) String() string {
	gap := "-"
	if v.Delivered > 1 {
		gap = v.Gap.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s",
		v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost, gap)
}
