package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// line is the progress so far.
func (t *tally) line(since time.Time, orders int, down string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := fmt.Sprintf("%5.1fs  answered %d/%d", time.Since(since).Seconds(), len(t.placed), orders)
	for _, name := range t.names {
		if name == down {
			s += fmt.Sprintf("  %s down", name)
		} else {
			s += fmt.Sprintf("  %s %d", name, len(t.accounts[name].handled))
		}
	}
	return s
}

// report is what it all came to: a small table, and last a line for machines.
func (t *tally) report() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	row := func(name string, columns ...any) {
		fmt.Fprintf(&b, "%-24s"+strings.Repeat("%9v", len(columns))+"\n", append([]any{name}, columns...)...)
	}
	slices.Sort(t.waits)
	// In turn, a customer would have waited for the order step as it was, and
	// then for what each service works on an order, by the medians measured.
	inTurn, lost, last := at(50, t.waits), 0, fmt.Sprintf("takeout: orders=%d", len(t.placed))
	b.WriteString("\n")
	row("service", "handled", "twice", "lost", "worked", "done in", "longest")
	for _, name := range t.names {
		a := t.accounts[name]
		slices.Sort(a.worked)
		slices.Sort(a.after)
		row(name, len(a.handled), a.repeats, a.owed, round(at(50, a.worked)), round(at(50, a.after)), round(at(100, a.after)))
		inTurn += at(50, a.worked)
		lost += a.owed
		last += fmt.Sprintf(" %s=%d", name, len(a.handled))
	}
	b.WriteString("\n")
	row("", "median", "p95", "longest")
	row("a customer waited", round(at(50, t.waits)), round(at(95, t.waits)), round(at(100, t.waits)))
	row("with each step in turn", round(inTurn))
	fmt.Fprintf(&b, "\n%s lost=%d customer_wait_p50=%v sequential_wait=%v",
		last, lost, round(at(50, t.waits)), round(inTurn))
	return b.String()
}

// verdict is nil if all that was promised was kept.
func (t *tally) verdict() error {
	var errs []error
	if n := t.owed(t.names...); n > 0 {
		errs = append(errs, fmt.Errorf("%d orders were lost", n))
	}
	if n := len(t.failures); n > 0 {
		errs = append(errs, fmt.Errorf("%d customers got no answer, the first for: %w", n, t.failures[0]))
	}
	return errors.Join(errs...)
}

// at is the p-th percentile of sorted, by nearest rank.
func at(p int, sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// round leaves three digits, for the eye.
func round(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
