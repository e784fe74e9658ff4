// Package conformancetest has what the conformance suite needs to run on each of our adapters. For
// the peers that we compare with internal/interop/peers has it, in a module of its own.
package conformancetest

import (
	"cmp"
	"context"
	"math"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/conformance"
)

// Adapter is a column of the matrix.
type Adapter struct {
	Name     string
	About    string // what was tested, in a line
	Ours     bool   // so that no case may fail
	Open     conformance.Opener
	Features adapters.Features

	// Notes explain failures to readers, by the ID of the case. Each was looked at. Those of
	// Sometimes are of cases that fail in some runs only. Disorder explains every failure that has
	// no other note and messages out of order in its history.
	Notes, Sometimes map[string]string
	Disorder         string
}

// Memory is the in-process broker.
func Memory() Adapter {
	return Adapter{
		Name:     "memory",
		About:    "adapters/memory, the in-process broker. It has no login.",
		Ours:     true,
		Features: adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique},
		Open: func(context.Context) (*conformance.Harness, error) {
			b := memory.New()
			return &conformance.Harness{
				Connect: func(context.Context) (adapters.Driver, error) { return b.Connect(), nil },
				Close:   func(context.Context) error { b.Close(); return nil },
				Restart: func(context.Context) error { b.Restart(); return nil },
				Cut:     func(context.Context) error { b.Cut(); return nil },
				Depth: func(_ context.Context, queue string) (int, error) {
					info, _ := b.Queue(queue)
					return info.Ready, nil
				},
				Delete: func(_ context.Context, queue string) error { return b.DeleteQueue(queue) },
				Freeze: func(context.Context) (func() error, error) {
					return stall(b, memory.OnPublish, memory.OnSubscribe, memory.OnDeliver, memory.OnSettle), nil
				},
				Block: func(context.Context) (func() error, error) { return stall(b, memory.OnPublish), nil },
				// A subscription's own HoldTime does it.
				HoldLimit: func(context.Context, time.Duration) (func() error, error) {
					return func() error { return nil }, nil
				},
			}, nil
		},
	}
}

// stall lets no operation come to an end, until it is undone.
func stall(b *memory.Broker, ops ...memory.Op) (undo func() error) {
	var removes []func()
	for _, op := range ops {
		removes = append(removes, b.Inject(memory.Fault{On: op, Delay: math.MaxInt64}))
	}
	return func() error {
		for _, remove := range removes {
			remove()
		}
		return nil
	}
}

// Check runs the suite.
func (a Adapter) Check(ctx context.Context) (conformance.Report, error) {
	r, err := conformance.Check(ctx, a.Open, a.Features)
	r.Adapter, r.About, r.Notes = a.Name, a.About, map[string]string{}
	for _, result := range r.Results {
		if note := a.note(result); note != "" && result.Outcome == conformance.Fail {
			r.Notes[result.ID] = note
		}
	}
	return r, err
}

// note explains a failure.
func (a Adapter) note(r conformance.Result) string {
	disorder := ""
	if strings.Contains(strings.Join(r.Why, "\n"), "the history has out of order") {
		disorder = a.Disorder
	}
	return cmp.Or(a.Notes[r.ID], a.Sometimes[r.ID], disorder)
}

// Unexplained says which failures of a report nobody has explained, and which
// explanations are of no failure.
func (a Adapter) Unexplained(r conformance.Report) (sentences []string) {
	for _, result := range r.Results {
		switch failed := result.Outcome == conformance.Fail; {
		case failed && a.note(result) == "":
			sentences = append(sentences, "no note explains the failure of "+result.ID)
		case !failed && a.Notes[result.ID] != "":
			sentences = append(sentences, "a note explains a failure of "+result.ID+", which did not fail")
		}
	}
	return sentences
}
