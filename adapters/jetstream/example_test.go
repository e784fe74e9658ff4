package jetstream_test

import (
	"context"
	"fmt"
	"os"

	_ "github.com/motifmq/motif/adapters/jetstream" // makes jetstream:, nats: and tls: URLs known
	"github.com/motifmq/motif/patterns"
)

// Durable queues with nothing installed: what one run of the program does not handle, the next one
// does.
func Example() {
	folder, err := os.MkdirTemp("", "shop-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	ctx := context.Background()
	url := "jetstream://" + folder // in production: "jetstream:///var/lib/shop"

	for run := range 2 {
		bus, err := patterns.Open(ctx, url)
		if err != nil {
			fmt.Println(err)
			return
		}
		orders := patterns.NewWorkQueue[string](bus, "orders")
		if run == 0 {
			err = orders.Send(ctx, "pad thai")
		} else {
			var order *patterns.Message[string]
			if order, err = orders.Get(ctx); err == nil {
				fmt.Println("shipping", order.Value)
				err = order.Ack(ctx)
			}
		}
		if err != nil {
			fmt.Println(err)
		}
		if err := bus.Close(ctx); err != nil {
			fmt.Println(err)
		}
	}
	// Output: shipping pad thai
}
