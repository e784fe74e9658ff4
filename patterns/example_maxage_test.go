package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A code to log in with is of no use after a while: what is older goes to the dead letters.
func ExampleMaxAge() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	codes := patterns.NewWorkQueue[string](bus, "login-codes")

	if err := codes.Send(ctx, "1234"); err != nil {
		log.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the worker is late
	late := make(chan error)
	sub, err := codes.Work(ctx, func(context.Context, string) error {
		fmt.Println("sent")
		return nil
	}, patterns.MaxAge(10*time.Millisecond), patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { late <- s.Err }))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(<-late, patterns.ErrTooOld))

	letter, err := codes.Dead().Get(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(letter.Value, letter.Headers[patterns.HeaderReason] != "")
	if err := errors.Join(letter.Ack(ctx), sub.Stop(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
	// 1234 true
}
