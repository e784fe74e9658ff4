package trial

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// Row is a fault, and how it is brought about.
type Row struct {
	Name, Fault string
	Do          func(*Trial)
}

// Run runs each row as a parallel subtest, most at a time, and logs a table of what became of
// their messages once all are done. Rows that were not selected are in it as not run, so that
// nobody takes them for passed.
func Run(t *testing.T, rows []Row, most int) {
	results := &table{rows: rows, results: map[string]result{}}
	t.Cleanup(func() { t.Logf("\n%s", results) })
	turns := make(chan struct{}, most)
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			begun := time.Now()
			v, problems := New().Do(row.Do)
			for _, problem := range problems {
				t.Error(problem)
			}
			results.set(row.Name, result{v, t.Failed(), time.Since(begun)})
		})
	}
}

// table collects the verdicts of rows.
type table struct {
	rows []Row

	mu      sync.Mutex
	results map[string]result
}

type result struct {
	verdict history.Verdict
	failed  bool
	took    time.Duration
}

func (t *table) set(name string, r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.results[name] = r
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "attempted\tconfirmed\tunknown\tdelivered\tduplicated\tunexpected\tlost\ttook\t\t fault")
	var all history.Verdict
	cells := func(v history.Verdict) string {
		return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d", v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost)
	}
	for _, row := range t.rows {
		r, ok := t.results[row.Name]
		if !ok {
			_, _ = fmt.Fprintf(w, "-\t-\t-\t-\t-\t-\t-\t-\tnot run\t %s\n", row.Fault)
			continue
		}
		state := "ok"
		if r.failed {
			state = "FAILED"
		}
		_, _ = fmt.Fprintf(w, "%s\t%v\t%s\t %s\n", cells(r.verdict), r.took.Round(100*time.Millisecond), state, row.Fault)
		all.Add(r.verdict.Counts)
		all.Unexpected += r.verdict.Unexpected
	}
	_, _ = fmt.Fprintf(w, "%s\t\t\t %d of %d rows run\n", cells(all), len(t.results), len(t.rows))
	_ = w.Flush()
	return b.String()
}
