package conformance_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/conformance"
)

// In an adapter's own test, which here is that of the in-process broker: how to
// get at the broker, and what the adapter claims.
func ExampleRun() {
	testConformance := func(t *testing.T) {
		open := func(context.Context) (*conformance.Harness, error) {
			broker := memory.New()
			return &conformance.Harness{
				Connect: func(context.Context) (adapters.Driver, error) { return broker.Connect(), nil },
				Restart: func(context.Context) error { broker.Restart(); return nil }, // and more, where there are ways
			}, nil
		}
		conformance.Run(t, open, adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique})
	}
	_ = testConformance
}

// Without a test: a report, of which there is also WriteText, WriteJSON and WriteHTML.
func ExampleCheck() {
	open := func(context.Context) (*conformance.Harness, error) {
		broker := memory.New()
		return &conformance.Harness{
			Connect: func(context.Context) (adapters.Driver, error) { return broker.Connect(), nil },
			Cut:     func(context.Context) error { broker.Cut(); return nil },
		}, nil
	}
	report, err := conformance.Check(context.Background(), open, adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique})
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range report.Results {
		if r.Outcome == conformance.Fail {
			fmt.Println(r.ID, "violated:", r.Rule, r.Why)
		}
	}
	fmt.Println("failed:", report.Count(conformance.Fail), "refused:", report.Count(conformance.Refused), "lost:", report.Totals().Lost)
	// Output:
	// failed: 0 refused: 0 lost: 0
}
