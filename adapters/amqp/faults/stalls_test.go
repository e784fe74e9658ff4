package faults

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// stalls are the times in which this program was kept from running, by a
// machine that has too much else to do. Nothing can come back in time then, so that they do not
// count.
type stalls struct {
	start time.Time // of the history

	mu   sync.Mutex
	list []stall
}

// stall is a time that was meant to be a beat, since the history's start.
type stall struct{ from, to time.Duration }

// beat is how often stalls are looked for. Who just sleeps for it and comes back
// much later was kept from running.
const beat = 20 * time.Millisecond

func (s *stalls) watch(ctx context.Context) {
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	for last := time.Now(); ; {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		s.note(last.Sub(s.start), now.Sub(s.start))
		last = now
	}
}

func (s *stalls) note(from, to time.Duration) {
	if to-from < 3*beat/2 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, stall{from + beat, to})
}

// forgive returns the events with the stalls taken out of how late calls came
// back.
func (s *stalls) forgive(events []history.Event) []history.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events = slices.Clone(events)
	for i := range events {
		e := &events[i]
		if e.Op != history.Returned {
			continue
		}
		due := e.At - e.Over
		for _, st := range s.list {
			e.Over -= max(0, min(st.to, e.At)-max(st.from, due))
		}
	}
	return events
}

func TestStallsAreForgiven(t *testing.T) {
	const ms = time.Millisecond
	var s stalls
	s.note(0, 30*ms)       // nothing unusual
	s.note(400*ms, 920*ms) // of which 500 ms are too much
	s.note(5000*ms, 6020*ms)
	for _, c := range []struct{ at, over, want time.Duration }{
		{300 * ms, 200 * ms, 200 * ms},
		{1000 * ms, 900 * ms, 400 * ms},   // all of the stall was after its ctx had ended
		{1000 * ms, 200 * ms, 80 * ms},    // the last 120 ms of it were
		{700 * ms, 400 * ms, 120 * ms},    // it came back in the middle
		{4000 * ms, 2000 * ms, 2000 * ms}, // there was none
		{7000 * ms, 6900 * ms, 5400 * ms},
	} {
		events := []history.Event{{Op: history.Returned, At: c.at, Over: c.over}, {Op: history.Deliver, At: c.at}}
		if got := s.forgive(events)[0].Over; got != c.want {
			t.Errorf("back at %v, %v late: %v count, want %v", c.at, c.over, got, c.want)
		}
		if events[0].Over != c.over {
			t.Error("the history has changed")
		}
	}
}
