package faults

import (
	"fmt"
	"slices"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/internal/rabbitmqtest"
)

// leaderKilled: 09. Of three nodes the one with the queue's leader is killed -9.
// Some clients are connected to that one, and go to another before there is a new
// leader; some are not. Either way publishing goes on soon, and what was confirmed is
// on a majority of the nodes.
func leaderKilled(x *trial) {
	nodes := rabbitmqtest.Cluster(x.t, rabbitmqtest.Options{}, 3)
	site := x.site(nodes[0].VHost) // which has to live
	at := func(order ...int) func(*amqp.Config) {
		return func(c *amqp.Config) {
			c.Addresses = nil
			for _, i := range order {
				c.Addresses = append(c.Addresses, fmt.Sprintf("127.0.0.1:%d", nodes[i].Port))
			}
		}
	}
	// Each address list begins with the node to be connected to.
	consumer := site.connect("near consumer", at(1, 2, 0))
	near := site.connect("near", at(1, 2, 0))
	w := x.watcher()
	far := site.connect("far", at(0, 2), watch(w))
	x.consume(x.subscribe(consumer, from("jobs", 100)), 4, nil) // so that the queue's leader is there
	x.consume(x.subscribe(far, from("jobs", 100)), 4, nil)
	q, err := site.Queue(x.soon(), "jobs")
	x.must(err, "asking for the queue")
	leader := slices.IndexFunc(nodes, func(n *rabbitmqtest.Node) bool { return n.Name == q.Node })
	if leader != 1 {
		x.fatalf("the queue's leader is at %q, want it where the queue was declared", q.Node)
	}

	n, f := x.stream(near, toQueue("jobs"), "near", 8, 1<<30, 100), x.stream(far, toQueue("jobs"), "far", 8, 1<<30, 100)
	flowing := func(what string) {
		before, beforeFar := n.confirmed.Load(), f.confirmed.Load()
		x.await(what, func() bool { return n.confirmed.Load() > before+500 && f.confirmed.Load() > beforeFar+500 })
	}
	flowing("messages flow")
	x.h.Add(history.Event{Op: history.Crash})
	x.must(nodes[leader].Kill(), "killing the node")
	flowing("messages flow again, by another leader")
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection to a node that lives was lost")
	}
	q, err = site.Queue(x.soon(), "jobs")
	x.must(err, "asking for the queue")
	if q.Node == nodes[leader].Name {
		x.errorf("the queue's leader is still at %q, which was killed", q.Node)
	}
	x.finish(n)
	x.finish(f)
	x.awaitHandled()
}
