package cron_test

import (
	"fmt"
	"time"

	"github.com/motifmq/motif/patterns/cron"
)

// In the night of 25 October clocks in Berlin go back from three to two. The report is due once.
func ExampleParse() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	nightly, err := cron.Parse("30 2 * * *", berlin) // for WorkQueue.Schedule
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, 10, 24, 0, 0, 0, 0, berlin)
	for range 3 {
		at = nightly.Next(at)
		fmt.Println(at)
	}
	// Output:
	// 2026-10-24 02:30:00 +0200 CEST
	// 2026-10-25 02:30:00 +0200 CEST
	// 2026-10-26 02:30:00 +0100 CET
}
