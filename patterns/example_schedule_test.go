package patterns_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type Report struct{ At time.Time }

// Each process of the program calls Schedule, and each report is asked for once.
func ExampleWorkQueue_Schedule() {
	ctx := context.Background()
	broker := memory.New()
	var reports *patterns.WorkQueue[Report]
	for range 3 { // processes
		bus := patterns.New(broker.Connect())
		defer bus.Close(ctx)
		reports = patterns.NewWorkQueue[Report](bus, "reports")

		often := patterns.Every(time.Second) // or package patterns/cron: "30 2 * * *", in a time zone
		_, err := reports.Schedule(ctx, "report", often, func(at time.Time) Report {
			return Report{At: at}
		}, patterns.RunMissed(60))
		if err != nil {
			fmt.Println(err)
			return
		}
	}

	first, _ := reports.Get(ctx) // or Work
	second, _ := reports.Get(ctx)
	fmt.Println(second.Value.At.Sub(first.Value.At), "later")
	fmt.Println(first.ID == "report@"+first.Value.At.Format(time.RFC3339))
	// Output:
	// 1s later
	// true
}

// A test of a schedule: a week takes no time in a bubble.
func TestReportsOfAWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		bus := patterns.New(memory.New().Connect())
		defer bus.Close(ctx)
		reports := patterns.NewWorkQueue[Report](bus, "reports")
		_, err := reports.Schedule(ctx, "daily-report", patterns.Every(24*time.Hour), func(at time.Time) Report {
			return Report{At: at}
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*24*time.Hour + time.Second) // virtual
		n := 0
		for report, err := range reports.Waiting(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; report.ID != "daily-report@"+report.Value.At.Format(time.RFC3339) {
				t.Errorf("%s: %v", report.ID, report.Value)
			}
		}
		if n != 7 {
			t.Errorf("%d reports in a week", n)
		}
	})
}
