package history_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/conformance/history"
)

// Two messages are sent and one is handled. That the other one is still in
// its queue has to be written down, or it would be lost.
func Example() {
	ctx := context.Background()
	log := history.New()
	d := history.Record(memory.New().Connect(), log, "orders")
	orders := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Prefetch: 1}
	if err := d.Declare(ctx, orders); err != nil {
		fmt.Println(err)
	}
	err := d.Publish(ctx, adapters.Publication{To: orders.Endpoint},
		message.NewMessage("pad thai", nil), message.NewMessage("tom yum", nil))
	if err != nil {
		fmt.Println(err)
	}

	handled, err := d.Get(ctx, orders)
	if err != nil {
		fmt.Println(err)
	}
	if err := handled.Settle(ctx, adapters.Ack); err != nil {
		fmt.Println(err)
	}
	fmt.Println(log.Check().Violations)

	for _, queue := range log.Queues() {
		for rest, err := d.Unwrap().(adapters.Getter).Get(ctx, queue); err == nil; rest, err = d.Unwrap().(adapters.Getter).Get(ctx, queue) {
			log.Add(history.Event{Op: history.Left, ID: rest.Message.UUID, Attempt: rest.Attempt, Queue: queue.QueueName()})
		}
	}
	if err := d.Close(ctx); err != nil {
		fmt.Println(err)
	}
	verdict := log.Check()
	fmt.Println(verdict)
	fmt.Println(verdict.Violations)
	// Output:
	// [lost: message "tom yum" in "orders" confirmed, and never delivered]
	// 2 attempted, 2 confirmed, 0 unknown, 0 recovered, 1 delivered, 0 duplicated, 0 lost, 0 unexpected, 0 violations
	// []
}
