package amqp

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestSettleWhileUndecided: from 4.3 on the broker cancels a consumer both for a message that was
// held for too long and for a queue that was deleted. Who settles before it is known which is told
// the truth, too.
func TestSettleWhileUndecided(t *testing.T) {
	t.Parallel()
	n := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"consumer_timeout": "5000", "channel_tick_interval": "500"}})
	events := make(chan Event, 100)
	d := connectTo(t, n.URL, func(c *Config) { c.OnEvent = func(e Event) { events <- e } })
	sub := subscribe(t, d, fromQueue("q", 2))
	publish(t, d, mandatory("q"), "a", "b")
	a, b := receive(t, sub, "a"), receive(t, sub, "b")
	d.noteDeclareTime(400 * time.Millisecond) // so that it takes a while to find out
	for e := range events {
		if e.Kind == Cancelled || e.Kind == TimedOut { // before 4.3 only the latter
			break
		}
	}
	errA, errB := a.Settle(soon(t), adapters.Ack), b.Settle(soon(t), adapters.Ack)
	if !errors.Is(errA, adapters.ErrStaleDelivery) || !errors.Is(errA, adapters.ErrConsumerTimeout) {
		t.Errorf("what was held for too long: %v", errA)
	}
	if !errors.Is(errB, adapters.ErrStaleDelivery) || errors.Is(errB, adapters.ErrConsumerTimeout) {
		t.Errorf("what went back with it: %v", errB)
	}
	receiveAll(t, sub, "a", "b")
}

// TestClassicQueueWhoseNodeStops: what was in hand is lost with the queue's node, not held for too
// long, and who consumes the queue as it stands goes on when the node is back.
func TestClassicQueueWhoseNodeStops(t *testing.T) {
	t.Parallel()
	nodes := amqptest.Cluster(t, amqptest.Options{}, 3)
	classic := func(c *Config) { c.QueueType = Classic }
	there := connectTo(t, nodes[1].URL, classic)
	src := fromQueue("q", 1)
	declare(t, there, src)
	events := make(chan Event, 100)
	d := connectTo(t, nodes[0].URL, classic, func(c *Config) { c.OnEvent = func(e Event) { events <- e } })
	passive := src
	passive.Passive = true
	sub := subscribe(t, d, passive)
	for round, stop := range []func() error{
		func() error { return nodes[1].Stop(soon(t)) },
		nodes[1].Kill,
	} {
		publish(t, d, mandatory("q"), "a")
		a := receive(t, sub, "a")
		time.Sleep(shortestTimeout) // of a younger consumer it would be said that its queue was deleted
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for (<-events).Kind != Cancelled {
		}
		if !d.publisher.current().version.atLeast(consumerTimeouts) { // the channel stays, and may settle what is gone
			settle(t, a, adapters.Ack)
			if err := nodes[1].Restart(soon(t)); err != nil {
				t.Fatal(err)
			}
			receiveAll(t, sub, "a")
			continue
		}
		select {
		case <-a.Message.Context().Done():
		case <-soon(t).Done():
			t.Fatal("what was in hand is not lost")
		}
		if cause := context.Cause(a.Message.Context()); !errors.Is(cause, adapters.ErrSessionLost) || errors.Is(cause, adapters.ErrConsumerTimeout) {
			t.Errorf("round %d: it ended for %v", round, cause)
		}
		if err := a.Settle(soon(t), adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) || errors.Is(err, adapters.ErrConsumerTimeout) {
			t.Errorf("round %d: settled late: %v", round, err)
		}
		if err := nodes[1].Restart(soon(t)); err != nil {
			t.Fatal(err)
		}
		receiveAll(t, sub, "a")
	}
	for len(events) > 0 {
		if e := <-events; e.Kind == TimedOut {
			t.Errorf("%+v", e)
		}
	}
	if err := sub.Stop(); err != nil {
		t.Error(err)
	}
}
