package deadletters_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"regexp"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/patterns"
)

// Send back what failed for one reason.
func Example() {
	ctx := context.Background()
	driver := memory.New().Connect() // or adapters.Open(ctx, url)
	bus := patterns.New(driver, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	defer bus.Close(ctx)
	fail(ctx, patterns.NewWorkQueue[string](bus, "orders"))

	letters := deadletters.New(driver, "orders.dead")
	look, err := letters.List(ctx, deadletters.Filter{Reason: regexp.MustCompile("spoon")}, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range look.Letters {
		fmt.Println(l.Ref(), l.From(), l.Reason())
	}
	report, err := letters.Replay(ctx, deadletters.ReplayOptions{Limit: 100})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Sent, "sent,", len(report.Doubtful), "may be double")
	// Output:
	// order-1 orders no spoon
	// 1 sent, 0 may be double
}

// fail leaves a dead letter.
func fail(ctx context.Context, orders *patterns.WorkQueue[string]) {
	if err := orders.Send(ctx, "soup", patterns.MessageID("order-1")); err != nil {
		log.Fatal(err)
	}
	taken, err := orders.Get(ctx)
	if err == nil {
		err = taken.Reject(ctx, errors.New("no spoon"))
	}
	if err != nil {
		log.Fatal(err)
	}
}
