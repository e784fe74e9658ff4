package patterns_test

import (
	"context"
	"fmt"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// The moves of one game are played in order, though two processes play.
func ExamplePartitions() {
	ctx := context.Background()
	broker := memory.New()

	type Move struct{ Game, From, To string }
	played := make(chan Move, 4)
	play := func(_ context.Context, m Move) error {
		played <- m
		return nil
	}
	for range 2 { // processes
		bus := patterns.New(broker.Connect())
		defer bus.Close(ctx)
		partitions := patterns.Partitions(8, func(m Move) string { return m.Game })
		moves := patterns.NewWorkQueue[Move](bus, "moves", partitions)
		sub, err := moves.Work(ctx, play, patterns.Workers(64))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer sub.Stop(ctx)
	}

	bus := patterns.New(broker.Connect())
	defer bus.Close(ctx)
	moves := patterns.NewWorkQueue[Move](bus, "moves", patterns.Partitions(8, func(m Move) string { return m.Game }))
	for _, m := range []Move{{"anna-ben", "e2", "e4"}, {"cleo-dan", "d2", "d4"}, {"anna-ben", "e7", "e5"}, {"anna-ben", "g1", "f3"}} {
		if err := moves.Send(ctx, m); err != nil {
			fmt.Println(err)
			return
		}
	}
	for range cap(played) {
		if m := <-played; m.Game == "anna-ben" {
			fmt.Println(m.From, m.To)
		}
	}
	// Output:
	// e2 e4
	// e7 e5
	// g1 f3
}
