package conformance

import (
	"context"
	"fmt"
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
func Run(t *testing.T, open Opener, features adapters.Features) {
	s := suite{open: open, claims: features}
	schedule(Cases(), func(c Case) {
		t.Run(c.ID, func(t *testing.T) {
			r := s.run(t.Context(), c)
			switch r.Outcome {
			case Fail:
				t.Errorf("violated: %s\n%s", r.Rule, strings.Join(r.Why, "\n"))
			case Refused, NotClaimed, NotApplicable:
				t.Logf("%s: %s", r.Outcome, strings.Join(r.Why, "; "))
			}
		})
	})
}

// Check runs the suite, outside of a test. The error says that ctx ended, not
// that a case failed: see [Report.Passed].
func Check(ctx context.Context, open Opener, features adapters.Features) (Report, error) {
	return check(ctx, Cases(), open, features)
}

func check(ctx context.Context, cases []Case, open Opener, features adapters.Features) (Report, error) {
	s := suite{open: open, claims: features}
	report := Report{Adapter: features.Adapter, Claims: features, Began: time.Now(), Results: make([]Result, len(cases))}
	place := make(map[string]int, len(cases))
	for i, c := range cases {
		place[c.ID] = i
	}
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
	defer func() { r.Took = time.Since(begin) }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	h, err := s.open(ctx)
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
		r.Outcome, r.Why = NotApplicable, []string{"the harness has no hook for " + lacking.String()}
		do = func(*trial) {}
	}
	t := newTrial(c.ID, h, s.claims)
	if problems := t.execute(ctx, do); len(problems) > 0 {
		r.Outcome, r.Why = Fail, problems
	}
	r.Counts = t.counts
	return r
}
