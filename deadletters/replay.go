package deadletters

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ReplayOptions says what to replay, and how. The zero value sends every letter to where it died,
// as fast as the broker takes them.
type ReplayOptions struct {
	Filter Filter
	Limit  int           // most letters to send; 0 = all
	To     string        // the queue to send to; "" = where the letter died
	Every  time.Duration // the time from one letter to the next; 0 = none

	// Change, unless nil, is called with each letter before it is sent, to change its Message and
	// Properties. An error leaves the letter where it is, as a Failure.
	Change func(*Letter) error

	// Progress, unless nil, is called when a letter is done: after each that was sent and taken
	// away.
	Progress func(l *Letter, to string)

	Journal *Journal // for a process that may be killed; nil = none
}

// patience is for how long a run goes on without any progress, while its broker is away.
const patience = 2 * time.Minute

// Replay sends letters to where they died, or where o says, as they came but for what tells of
// their death: with their id, headers, properties and key, to be tried as if for the first time. It
// takes the letters that are in the queue when it begins; what comes later may or may not be among
// them.
//
// It goes on if its broker is restarted or the connection lost, until it has made no progress for 2
// minutes. When ctx ends it finishes what is in flight and puts back the rest. The report is
// complete in any case, and the error is nil if every letter that was picked has been sent or is in
// Report.Failed. A destination that refuses a letter for good is not tried with others.
//
// It takes an adapter that can inspect, and use a queue as it stands.
func (q *Queue) Replay(ctx context.Context, o ReplayOptions) (Report, error) {
	if o.To == q.name {
		return Report{}, fmt.Errorf("%w: queue %q cannot be replayed into itself", adapters.ErrInvalid, q.name)
	}
	return q.run(ctx, o, false)
}

// Drop takes away letters that f picks, at most limit of them, or all if that is 0. They are gone.
func (q *Queue) Drop(ctx context.Context, f Filter, limit int) (Report, error) {
	return q.run(ctx, ReplayOptions{Filter: f, Limit: limit}, true)
}

func (q *Queue) run(ctx context.Context, o ReplayOptions, drop bool) (Report, error) {
	ops, err := q.inspector(adapters.CanInspect | adapters.CanPassive)
	if err != nil {
		return Report{}, err
	}
	r := &run{
		queue: q, ops: ops, o: o, drop: drop, features: q.driver.Features(), report: Report{Run: rand.Text()[:12], Doubtful: slices.Clone(o.Journal.repeats())},
		known: newKnown(o.Journal), unconfirmed: map[digest]Doubt{}, refused: map[string]error{}, found: map[string]bool{}, progress: time.Now(),
	}
	const least, most = 50 * time.Millisecond, 2 * time.Second
	for pause := least; ; pause = min(2*pause, most) {
		before := r.progress
		again, err := r.pass(ctx)
		if !again || ctx.Err() != nil || time.Since(r.progress) > patience {
			report := r.finish()
			through := err == nil && !again && !r.limitReached() && !r.passed
			inOrder := !r.lost && (err == nil || errors.Is(err, ctx.Err())) // else acknowledgements may be lost
			o.Journal.ended(report.Settled() && (through || inOrder), through)
			if err == nil && !r.limitReached() {
				report.Missing = slices.DeleteFunc(slices.Clone(o.Filter.Refs), func(ref string) bool { return r.found[ref] })
			}
			return report, err
		}
		if r.progress.After(before) {
			pause = least
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// finish completes the report.
func (r *run) finish() Report {
	for _, d := range r.unconfirmed {
		r.report.Doubtful = append(r.report.Doubtful, d)
	}
	r.report.Doubtful = append(r.report.Doubtful, r.known.kept()...)
	seen := map[Doubt]bool{}
	r.report.Doubtful = slices.DeleteFunc(r.report.Doubtful, func(d Doubt) bool {
		before := seen[d]
		seen[d] = true
		return before
	})
	return r.report
}
