// Package conformancetest has what the conformance suite needs to run on each of our adapters. For
// the peers that we compare with internal/interop/peers has it, in a module of its own.
package conformancetest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
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

	// Test is the package whose TestConformance runs the suite, in place of Open: that of an
	// adapter that is a module of its own.
	Test string

	// Notes explain failures to readers, by the ID of the case. Each was looked
	// at.
	Notes map[string]string
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
	check := func() (conformance.Report, error) { return conformance.Check(ctx, a.Open, a.Features) }
	if a.Test != "" {
		check = func() (conformance.Report, error) { return runTest(ctx, a.Test) }
	}
	r, err := check()
	r.Adapter, r.About, r.Notes = a.Name, a.About, map[string]string{}
	for _, result := range r.Results {
		if note := a.Notes[result.ID]; note != "" && result.Outcome == conformance.Fail {
			r.Notes[result.ID] = note
		}
	}
	return r, err
}

// runTest runs the TestConformance of a package, and returns its report.
func runTest(ctx context.Context, of string) (r conformance.Report, err error) {
	dir, err := os.MkdirTemp("", "motif-conformance")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's for such things
	file := filepath.Join(dir, "report.json")
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=30m", "-run=^TestConformance$", of) //nolint:gosec // one of ours
	test.Env = append(os.Environ(), "MOTIF_CONFORMANCE="+file)
	said, failed := test.CombinedOutput() // also where a rule is violated, which the report says
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		err = fmt.Errorf("testing %s: %w (%w)\n%s", of, err, failed, said)
	}
	return r, err
}

// Modules are the adapters that are modules of their own.
func Modules() []Adapter {
	return []Adapter{
		{
			Name: "jetstream", Ours: true, Test: "github.com/motifmq/motif/adapters/jetstream",
			About: "adapters/jetstream, on one server in this process, with connections that can be cut.",
		},
		{
			Name: "kafka", Ours: true, Test: "github.com/motifmq/motif/adapters/kafka",
			About: "adapters/kafka, on one node of Kafka " + cmp.Or(os.Getenv("MOTIF_KAFKA"), "4.4.0") + ", with connections that can be cut.",
		},
	}
}

// Unexplained says which failures of a report nobody has explained, and which
// explanations are of no failure.
func (a Adapter) Unexplained(r conformance.Report) (sentences []string) {
	for _, result := range r.Results {
		switch noted := a.Notes[result.ID] != ""; {
		case result.Outcome == conformance.Fail && !noted:
			sentences = append(sentences, "no note explains the failure of "+result.ID)
		case result.Outcome != conformance.Fail && noted:
			sentences = append(sentences, "a note explains a failure of "+result.ID+", which did not fail")
		}
	}
	return sentences
}
