package patterns_test

import (
	"context"
	"fmt"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// The moves of one game are played in order, and those of many games at once.
func ExampleOrderBy() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)

	type Move struct{ Game, From, To string }
	moves := patterns.NewWorkQueue[Move](bus, "moves")
	for _, m := range []Move{{"anna-ben", "e2", "e4"}, {"cleo-dan", "d2", "d4"}, {"anna-ben", "e7", "e5"}, {"anna-ben", "g1", "f3"}} {
		if err := moves.Send(ctx, m); err != nil {
			fmt.Println(err)
			return
		}
	}

	played := make(chan Move, 4)
	play := func(_ context.Context, m Move) error {
		played <- m
		return nil
	}
	sub, err := moves.Work(ctx, play,
		patterns.OrderBy(func(m Move) string { return m.Game }),
		patterns.Workers(64))
	if err != nil {
		fmt.Println(err)
		return
	}
	for range cap(played) {
		if m := <-played; m.Game == "anna-ben" {
			fmt.Println(m.From, m.To)
		}
	}
	fmt.Println("drained:", sub.Stop(ctx))
	// Output:
	// e2 e4
	// e7 e5
	// g1 f3
	// drained: <nil>
}
