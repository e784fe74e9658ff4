package faults

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestScheduleThroughRestart: three processes with a schedule of each second, through a restart of
// the broker. There is one message for each second, and no repeat before something goes wrong.
func TestScheduleThroughRestart(t *testing.T) {
	t.Parallel()
	n := amqptest.Private(t, amqptest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	type run struct{ At time.Time }
	const most = 100
	const together = 3 * time.Second // in which the processes find each other, on a busy machine
	var queues []*patterns.WorkQueue[run]
	var scheduled []*patterns.Scheduled
	for range 3 {
		bus, err := patterns.Open(ctx, n.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer bus.Close(context.Background())
		q := patterns.NewWorkQueue[run](bus, "reports")
		s, err := q.Schedule(ctx, "tick", patterns.Every(time.Second), func(at time.Time) run { return run{at} }, patterns.RunMissed(most))
		if err != nil {
			t.Fatal(err)
		}
		queues, scheduled = append(queues, q), append(scheduled, s)
	}

	sent := map[time.Time]int{}
	var first, last time.Time
	count := func(m *patterns.Message[run]) {
		at := m.Value.At
		if want := "tick@" + at.Format(time.RFC3339); m.ID != want {
			t.Errorf("id %q, want %q", m.ID, want)
		}
		if !m.Redelivered || sent[at] == 0 { // else it may be the same copy, whose acknowledgement was lost
			sent[at]++
		}
		if first.IsZero() {
			first = at
		}
		if at.After(last) {
			last = at
		}
		_ = m.Ack(ctx)
	}
	receiveUntil := func(until time.Time) {
		t.Helper()
		for !last.After(until) {
			m, err := queues[0].Get(ctx)
			if errors.Is(err, adapters.ErrUnavailable) && ctx.Err() == nil {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			count(m)
		}
	}
	receiveUntil(time.Now().Add(2*together + 2*time.Second))
	quiet := last
	if err := errors.Join(n.Stop(ctx), n.Restart(ctx)); err != nil {
		t.Fatal(err)
	}
	receiveUntil(time.Now().Add(time.Second))
	for i, s := range scheduled {
		if i == 2 { // the last one that is left goes on
			receiveUntil(time.Now().Add(2 * time.Second))
		}
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	for m, err := range queues[0].Waiting(ctx) { // what came back may be behind later ones
		if err != nil {
			t.Fatal(err)
		}
		count(m)
	}

	twice := 0
	for at := first; !at.After(last); at = at.Add(time.Second) {
		switch {
		case sent[at] == 0:
			t.Errorf("none for %v", at)
		case sent[at] > 1 && at.After(first.Add(together)) && at.Before(quiet): // not while they begin, nor when it goes wrong
			t.Errorf("%d for %v, when nothing went wrong", sent[at], at)
		}
		twice += max(sent[at]-1, 0)
	}
	t.Logf("from %v to %v, quiet until %v: %d runs, %d repeats", first, last, quiet, len(sent), twice)
	if twice > 6 { // three processes
		t.Errorf("%d repeats", twice)
	}
}
