package patterns_test

import (
	"context"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// The handler writes many orders in one transaction, where it would write one in each. The one that
// cannot be written is a dead letter, and the others are done.
func ExampleWorkQueue_WorkBatch() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[order](bus, "orders")

	stored := make(chan struct{})
	store := func(ctx context.Context, batch []order) error {
		defer close(stored)
		failed := patterns.BatchError{}
		for i, o := range batch {
			if o.Dish == "" {
				failed[i] = patterns.Reject(errNoDish)
				continue
			}
			fmt.Println("insert", o.Dish)
		}
		fmt.Println("commit")
		return failed
	}
	_, err := orders.WorkBatch(ctx, store, patterns.BatchSize(3), patterns.BatchWait(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = orders.SendBatch(ctx, []order{{1, "ramen"}, {2, ""}, {3, "pho"}})
	<-stored

	letter, _ := orders.Dead().Get(ctx)
	fmt.Println("order", letter.Value.ID, "is a dead letter:", letter.Headers[patterns.HeaderReason])
	_ = letter.Ack(ctx)
	// Output:
	// insert ramen
	// insert pho
	// commit
	// order 2 is a dead letter: no such dish
}

func ExampleWorkQueue_SendItems() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[string](bus, "orders")
	_ = orders.SendItems(ctx, []patterns.Item[string]{
		{Value: "ramen", Options: []patterns.PublishOption{patterns.MessageID("order-7")}},
		{Value: "pho", Options: []patterns.PublishOption{patterns.Header("table", "4")}},
		{Value: "cake", Options: []patterns.PublishOption{patterns.Delay(time.Hour)}},
	})
	for order, err := range orders.Waiting(ctx) {
		fmt.Println(order.Value, order.ID == "order-7", order.Headers["table"], err)
	}
	// Output:
	// ramen true  <nil>
	// pho false 4 <nil>
}
