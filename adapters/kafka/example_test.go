package kafka_test

import (
	"context"
	"fmt"

	_ "github.com/motifmq/motif/adapters/kafka" // makes kafka: and kafkas: URLs known
	"github.com/motifmq/motif/patterns"
)

// A work queue on Kafka is told what it has to do without.
func Example() {
	ctx := context.Background()
	bus, err := patterns.Open(ctx, "kafka://user:password@kafka.example.com:9092")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bus.Close(ctx)

	orders := patterns.NewWorkQueue[string](bus, "orders", patterns.NoDeadLetter())
	sub, err := orders.Work(ctx, func(_ context.Context, order string) error {
		fmt.Println("shipping", order)
		return nil
	}, patterns.NoRetry(), patterns.OnDrop(func(d patterns.Delivery, err error) {
		fmt.Println("given up:", d.ID, err)
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sub.Wait())
}
