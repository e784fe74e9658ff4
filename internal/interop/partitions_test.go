package interop

import (
	"context"
	"fmt"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestPartitionsOfPika: a program without Motif declares and sends to the partitions as
// docs/wire.md has them.
func TestPartitionsOfPika(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	queue := unique(t)
	names := make([]string, 2)
	for i := range names {
		names[i] = fmt.Sprint(queue, ".p", i)
		p.do(t, "queue_declare", with{"queue": names[i], "durable": true, "arguments": with{
			"x-queue-type": "quorum", "x-delivery-limit": 2147483647, "x-single-active-consumer": true,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dead",
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
		}})
	}
	orders := patterns.NewWorkQueue[order](patterns.New(connect(t, url, "")), queue, patterns.Partitions(2, func(o order) string { return o.Dish }))
	next, stop := works(func(ctx context.Context, h patterns.Handler[order]) (*patterns.Subscription, error) {
		return orders.Work(ctx, h)
	}).start(t)
	p.publish(t, "", names[patterns.PartitionOf("pad thai", 2)], padThai, nil)
	if d := next(); d.Queue != queue {
		t.Errorf("it came with %+v", d)
	}
	stop()
	if err := orders.Send(soon(t), order{"pad thai"}, patterns.MessageID("8")); err != nil {
		t.Fatal(err)
	}
	p.do(t, "queue_purge", with{"queue": names[1-patterns.PartitionOf("pad thai", 2)]})
	next, stop = works(func(ctx context.Context, h patterns.Handler[order]) (*patterns.Subscription, error) {
		return orders.Work(ctx, h)
	}).start(t)
	if d := next(); d.ID != "8" {
		t.Errorf("from another partition came %+v", d)
	}
	stop()
}
