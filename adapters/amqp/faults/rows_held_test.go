package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// consumerTimeout: 28. Two services share a queue under load. Some messages are held past the
// consumer timeout, once by a handler that heeds its ctx and once by one that comes back
// late and says that all is well; one is held whenever it comes. All are handled, or dead in
// the end, and afterwards the broker has two consumers, and neither of them is a ghost.
func consumerTimeout(x *trial) {
	const held, timeout = 4, 5 * time.Second
	_, site := x.node(amqptest.Options{Settings: map[string]string{
		"consumer_timeout": fmt.Sprint(timeout.Milliseconds()), "channel_tick_interval": "500", "quorum_tick_interval": "500",
	}})
	var timedOut, returned atomic.Int64
	var mu sync.Mutex
	times := map[string]int{}   // by id, how often it was held
	over := make(chan struct{}) // closed when none is held any more: a second copy may come late
	handle := func(ctx context.Context, _ string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		if !strings.HasPrefix(d.ID, "held") && d.ID != "always" {
			if strings.HasPrefix(d.ID, "after") && d.Redelivered {
				returned.Add(1)
			}
			return nil
		}
		mu.Lock()
		times[d.ID]++
		n := times[d.ID]
		mu.Unlock()
		if n > 2 && d.ID != "always" {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-over:
		case <-time.After(6 * timeout): // nobody said a word
		}
		if errors.Is(context.Cause(ctx), adapters.ErrConsumerTimeout) {
			timedOut.Add(1)
		}
		if n == 1 {
			return ctx.Err()
		}
		return nil
	}
	publisher := site.connect("publisher")
	var buses []*patterns.Bus
	for _, name := range []string{"one", "two"} {
		bus := x.bus(site.connect(name), name)
		buses = append(buses, bus)
		_, err := patterns.NewWorkQueue[string](bus, "jobs").Work(x.ctx, handle, patterns.Workers(8), patterns.Prefetch(16))
		x.must(err, "working")
	}
	jobs := x.stream(publisher, toQueue("jobs"), "job", 2, 1<<30, 100)
	x.flowing("messages flow", 100, jobs)
	for i := range held {
		x.publish(publisher, toQueue("jobs"), text(id("held", i), 10))
	}
	x.publish(publisher, toQueue("jobs"), text("always", 10))
	x.await("what is always held is dead, the rest is handled", func() bool {
		return timedOut.Load() >= held && buses[0].Stats().DeadLettered+buses[1].Stats().DeadLettered > 0
	})
	close(over)
	x.flowing("messages flow", 100, jobs)
	x.finish(jobs)
	site.depth("jobs", 0)

	// A ghost would keep every second message until its time is up.
	x.await("the broker has the two consumers", func() bool {
		q, err := site.Queue(x.soon(), "jobs")
		return err == nil && q.Consumers == 2
	})
	x.join(x.stream(publisher, toQueue("jobs"), "after", 4, 200, 100))
	site.depth("jobs", 0)
	if n := returned.Load(); n > 0 {
		x.errorf("%d messages were with somebody else before", n)
	}
	if n := x.log.count("channel/connection is not open"); n > 0 { // what came on a channel that was closed
		x.errorf("%d connections were lost, with what others had in hand", n)
	}
	x.consume(x.subscribe(publisher, from("jobs.dead", 10)), 1, nil)
	x.awaitHandled()
	for _, e := range x.h.Events() {
		if e.Op == history.Settled && e.Queue == "jobs.dead" && e.ID != "always" {
			x.errorf("%s is dead", e.ID)
		}
	}
}
