package faults

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		beChild(role) // does not return
	}
	amqptest.Parallel(64) // turns says how many at a time
	amqptest.Main(m)
}

// row is one kind of fault. Its number is that of the catalogue of faults,
// where 1 to 21 are of network and broker, 22 to 31 of handlers and messages, 32 to 36 of
// publishing, 37 to 40 of RPC, 41 to 54 of everything else, and from 55 on of clusters again.
type row struct {
	number  int
	name    string
	fault   string
	expects string
	run     func(*trial)
}

// alone are the rows with so many publishers at work that others, beside them, would be late: they
// take all turns.
var alone = []int{6, 43}

// inRing are the rows that have the cluster of three in turn.
var inRing = []int{8, 9, 10, 21, 55}

// turns are for the other rows that run at a time, beside the one in the ring: they wait most of
// it.
var turns = make(chan struct{}, 4)

func (r row) String() string { return fmt.Sprintf("%02d-%s", r.number, r.name) }

func TestFaults(t *testing.T) {
	t.Parallel()
	results := &table{}
	t.Cleanup(func() {
		closeRing(t)
		t.Logf("\n%s", results)
	})
	for _, r := range rows {
		t.Run(r.String(), func(t *testing.T) {
			if !slices.Contains(alone, r.number) {
				t.Parallel()
			}
			if slices.Contains(inRing, r.number) {
				three.Lock()
				t.Cleanup(three.Unlock) // after all that the row cleans up
			} else {
				count := 1
				if slices.Contains(alone, r.number) {
					count = cap(turns)
				}
				for range count {
					turns <- struct{}{}
					defer func() { <-turns }()
				}
			}
			x := newTrial(t, r.String())
			begin, state := time.Now(), skipped
			var v history.Verdict
			defer func() { results.set(r.number, result{v, state, time.Since(begin)}) }()
			v = x.run(r.run)
			if t.Skipped() {
				return
			}
			state = passed
			for _, problem := range x.problems {
				t.Error(problem)
			}
			if t.Failed() {
				state = failed
				t.Logf("%s: %s\nlast lines of the log:\n%s", r.fault, r.expects, x.log.tail(30))
			}
		})
	}
}
