package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
)

// rollingRestart: 08. Each of three nodes is stopped or killed, and started again, the next
// one when the cluster is whole. Clients know all of them, and go on at another.
func rollingRestart(x *trial) {
	r := x.ring()
	var streams []*stream
	for i := range r.nodes {
		name := fmt.Sprintf("client-%d", i)
		client := r.site.connect(name, r.at(i, (i+1)%3, (i+2)%3))
		x.consume(x.subscribe(client, from("jobs", 20)), 2, nil)
		streams = append(streams, x.stream(client, toQueue("jobs"), name, 2, 1<<30, 100))
	}
	single := r.site.connect("single", r.at(0, 1, 2))
	x.consume(x.subscribe(single, from("ordered", 20)), 1, nil)
	streams = append(streams, x.stream(single, toQueue("ordered"), "ordered", 1, 1<<30, 100))
	x.flowing("messages flow", 100, streams...)
	for i, n := range r.nodes {
		if i == 1 {
			r.kill(i)
		} else {
			x.h.Add(history.Event{Op: history.Crash})
			x.must(n.Stop(x.soon()), "stopping a node")
		}
		x.flowing("messages flow without a node", 100, streams...)
		r.restart(i)
		x.flowing("messages flow with it", 100, streams...)
	}
	for _, s := range streams {
		x.finish(s)
	}
	x.awaitHandled()
	x.inOrder("ordered")
}

// majorityLost: 10. Two nodes of three are killed -9, those with the queue's leader among
// them. What is left can store nothing: no call waits for longer than its ctx, none is
// told that something is stored, and all goes on when they are back.
func majorityLost(x *trial) {
	r := x.ring()
	client := r.site.connect("client", r.at(0))
	elsewhere := r.site.connect("elsewhere", r.at(1, 2, 0))
	x.consume(x.subscribe(elsewhere, from("jobs", 20)), 2, nil)
	x.consume(x.subscribe(client, from("jobs", 20)), 2, nil)
	own := x.subscribe(client, from("own", 20))
	for i := range 10 {
		x.publish(client, toQueue("own"), text(id("own", i), 100))
	}
	held := x.receive(own)
	s, e := x.stream(client, toQueue("jobs"), "job", 2, 1<<30, 100), x.stream(elsewhere, toQueue("jobs"), "else", 2, 1<<30, 100)
	x.flowing("messages flow", 100, s, e)
	r.kill(1)
	r.kill(2)

	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() {
			err := x.within(2*time.Second, "Publish without a majority", func(ctx context.Context) error {
				return client.Publish(ctx, toQueue("jobs"), text(id("lonely", i), 100))
			})
			if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrUnavailable) {
				x.errorf("publish without a majority: got error %v, want it to be unavailable or unconfirmed", err)
			}
		})
	}
	calls.Go(func() {
		_ = x.within(time.Second, "Subscribe", func(ctx context.Context) error {
			_, err := client.Subscribe(ctx, from("other", 1))
			return err
		})
	})
	calls.Go(func() {
		_ = x.within(time.Second, "Declare", func(ctx context.Context) error { return client.Declare(ctx, from("another", 1)) })
	})
	calls.Go(func() {
		_ = x.within(time.Second, "Get", func(ctx context.Context) error {
			_, err := client.Get(ctx, from("own", 1))
			return err
		})
	})
	calls.Go(func() { _ = held.Settle(context.Background(), adapters.Ack) })
	calls.Wait()

	r.restart(1, 2)
	x.flowing("messages flow again", 100, s, e)
	x.consume(own, 1, nil)
	x.finish(s)
	x.finish(e)
	x.awaitHandled()
}

// partition: 21. One node of three is cut off from the others, and clients reach it. It can
// store nothing, and must not say so; the others go on.
func partition(x *trial) {
	r := x.ring()
	// Before Khepri what a node does then is a setting: this one is for those that want
	// nothing lost. 4.3 has but one way.
	handling := func(how string) {
		for _, n := range r.nodes {
			x.must(n.Eval(x.soon(), nil, "application:set_env(rabbit, cluster_partition_handling, %s)", how), "setting what a partition does")
		}
	}
	handling("pause_minority")
	most := r.site.connect("most", r.at(0, 1))
	x.consume(x.subscribe(most, from("jobs", 20)), 4, nil)
	few := r.site.connect("few", r.at(2))
	m, f := x.stream(most, toQueue("jobs"), "most", 2, 1<<30, 100), x.stream(few, toQueue("jobs"), "few", 2, 1<<30, 100)
	x.flowing("messages flow", 100, m, f)
	for _, leader := range []int{0, 2} { // with the others, and at the node that is cut off
		r.moveLeader("jobs", leader)
		x.flowing("messages flow", 100, m, f)
		x.h.Add(history.Event{Op: history.Crash}) // a leader that is cut off may have sent what it cannot have acknowledged
		x.must(r.nodes[2].Isolate(x.soon()), "cutting off a node")
		x.h.Add(history.Event{Op: history.Crash}) // it took a while
		for i := range 4 {
			err := x.within(time.Second, "Publish to the node that is cut off", func(ctx context.Context) error {
				return few.Publish(ctx, toQueue("jobs"), text(fmt.Sprintf("lonely-%d-%d", leader, i), 100))
			})
			if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrUnavailable) {
				x.errorf("publish to a node that is cut off: got error %v, want it to be unavailable or unconfirmed", err)
			}
		}
		x.flowing("messages flow at the others", 100, m)
		x.must(r.nodes[2].Rejoin(x.soon()), "ending the partition")
		r.whole()
		x.flowing("messages flow again", 100, m, f)
	}
	handling("ignore")
	x.finish(m)
	x.finish(f)
	x.awaitHandled()
}
