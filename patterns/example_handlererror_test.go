package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

var (
	errNoDish   = errors.New("no such dish")
	errTooLate  = errors.New("the customer has left")
	errNoBurner = errors.New("all burners are in use")
)

// What errors mean is said in one place, and handlers return their own.
func ExampleClassify() {
	meaning := patterns.Classify(func(err error) error {
		var notANumber *strconv.NumError
		switch {
		case errors.Is(err, errNoDish), errors.As(err, &notANumber):
			return patterns.Reject(err) // to the dead letters, now
		case errors.Is(err, errTooLate):
			return patterns.Skip(err) // acknowledged
		case errors.Is(err, errNoBurner):
			return patterns.Requeue(err) // back to its place
		}
		return err // tried again, when the retry policy says
	})

	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	tables := patterns.NewWorkQueue[string](bus, "tables")
	handled := make(chan struct{})
	_, _ = tables.Work(ctx, func(_ context.Context, table string) error {
		switch n, err := strconv.Atoi(table); {
		case err != nil:
			return err
		case n == 7:
			return fmt.Errorf("table %d: %w", n, errTooLate)
		}
		close(handled)
		return nil
	}, meaning)
	_ = tables.SendBatch(ctx, []string{"seven", "7", "8"})
	<-handled
	dead, _ := tables.Dead().Get(ctx)
	fmt.Println("dead:", dead.Value)
	fmt.Println("skipped:", bus.Stats().Skipped)
	// Output:
	// dead: seven
	// skipped: 1
}
