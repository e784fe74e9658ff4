package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// parallel is how many cases run at once. They wait most of the time.
const parallel = 8

// Run runs the suite as subtests of t. features is what the adapter claims.
// Cases that do something to the broker that others would notice run after all
// others, one at a time.
//
// If the environment's MOTIF_CONFORMANCE names a file, the report is written to it, as JSON.
func Run(t *testing.T, open Opener, features adapters.Features) {
	s := suite{open: open, claims: features}
	cases := Cases()
	report, place := newReport(cases, features)
	schedule(cases, func(c Case) {
		t.Run(c.ID, func(t *testing.T) {
			r := s.run(t.Context(), c)
			report.Results[place[c.ID]] = r
			switch r.Outcome {
			case Fail:
				t.Errorf("violated: %s\n%s", r.Rule, strings.Join(r.Why, "\n"))
			case NotRun:
				t.Errorf("not run: %s", strings.Join(r.Why, "; "))
			case Refused, NotClaimed, NotApplicable:
				t.Logf("%s: %s", r.Outcome, strings.Join(r.Why, "; "))
			}
		})
	})
	report.Took = time.Since(report.Began)
	file := os.Getenv("MOTIF_CONFORMANCE")
	if file == "" {
		return
	}
	var b bytes.Buffer
	err := report.WriteJSON(&b)
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// newReport returns a report with no results yet, and the place of each case's by its ID.
func newReport(cases []Case, features adapters.Features) (Report, map[string]int) {
	report := Report{Adapter: features.Adapter, Began: time.Now(), Results: make([]Result, len(cases))}
	if features.Ability != 0 {
		report.Claims = strings.Split(features.Ability.String(), ", ")
	}
	place := make(map[string]int, len(cases))
	for i, c := range cases {
		place[c.ID] = i
	}
	return report, place
}

// Check runs the suite, outside of a test. The error says that ctx ended, and
// that the cases that had not come to their end by then are [NotRun]; it does not say
// that a case failed: see [Report.Passed].
func Check(ctx context.Context, open Opener, features adapters.Features) (Report, error) {
	return check(ctx, Cases(), open, features)
}

func check(ctx context.Context, cases []Case, open Opener, features adapters.Features) (Report, error) {
	s := suite{open: open, claims: features}
	report, place := newReport(cases, features)
	schedule(cases, func(c Case) { report.Results[place[c.ID]] = s.run(ctx, c) })
	report.Took = time.Since(report.Began)
	return report, ctx.Err()
}

// schedule calls run for each case, for those that must be alone at the end.
func schedule(cases []Case, run func(Case)) {
	next := make(chan Case)
	var running sync.WaitGroup
	for range parallel {
		running.Go(func() {
			for c := range next {
				run(c)
			}
		})
	}
	for _, c := range cases {
		if !c.alone() {
			next <- c
		}
	}
	close(next)
	running.Wait()
	for _, c := range cases {
		if c.alone() {
			run(c)
		}
	}
}

// suite is one run of all cases against one adapter.
type suite struct {
	open   Opener
	claims adapters.Features
}

// A case is given this long, and its broker's hooks are part of it.
const limit = 90 * time.Second

// run runs one case to its end, or to the end of its time.
func (s *suite) run(ctx context.Context, c Case) (r Result) {
	begin := time.Now()
	r = Result{ID: c.ID, Rule: c.Rule, Outcome: Pass}
	defer func() {
		r.Took = time.Since(begin)
		if err := ctx.Err(); err != nil { // what it found may be due to that
			r.Outcome, r.Why = NotRun, []string{fmt.Sprintf("the run has ended: %v", context.Cause(ctx))}
		}
	}()
	if ctx.Err() != nil {
		return r
	}
	inTime, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	h, err := s.harness(inTime)
	if err != nil {
		r.Outcome, r.Why = Fail, []string{fmt.Sprintf("the harness cannot be opened: %v", err)}
		return r
	}
	do := c.run
	missing, lacking := c.Needs&^s.claims.Ability, c.Hooks&^h.hooks()
	switch {
	case missing != 0:
		r.Outcome, r.Why = Refused, []string{"not claimed: " + missing.String()}
		if missing&refusable == 0 {
			r.Outcome = NotClaimed
		}
		do = func(t *trial) { t.refuses(missing) }
	case lacking != 0:
		r.Outcome, r.Why = NotApplicable, []string{"the harness has no hook: " + lacking.String()}
		do = func(*trial) {}
	}
	problems, counts := newTrial(c.ID, h, s.claims).execute(inTime, do)
	if len(problems) > 0 {
		r.Outcome, r.Why = Fail, problems
	}
	r.Counts = counts
	return r
}

// harness opens one, and does not wait longer than it is told to.
func (s *suite) harness(ctx context.Context) (h *Harness, err error) {
	type opened struct {
		*Harness
		err error
	}
	back := make(chan opened, 1)
	go func() {
		o := opened{err: errors.New("it did not return")}
		defer func() {
			if v := recover(); v != nil {
				o.err = fmt.Errorf("panic: %v\n%s", v, callers())
			}
			back <- o
		}()
		o.Harness, o.err = s.open(ctx)
	}()
	select {
	case o := <-back:
		if o.err == nil && (o.Harness == nil || o.Connect == nil) {
			o.err = errors.New("it cannot connect")
		}
		return o.Harness, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
