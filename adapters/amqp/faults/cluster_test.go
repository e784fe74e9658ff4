package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
)

// three are the nodes of a cluster, which takes long to start. The rows that need it have it in
// turn: each leaves it whole, or the next one starts another.
var three struct {
	sync.Mutex // held by the row whose turn it is
	nodes      []*amqptest.Node
}

// ring is what a row has of the three.
type ring struct {
	x     *trial
	nodes []*amqptest.Node
	site  *site // asks the first node
}

func (x *trial) ring() *ring {
	if three.nodes == nil {
		// What a consumer held whose node is gone RabbitMQ (4.3) keeps for a minute, without this.
		three.nodes = amqptest.Lasting(x.t, amqptest.Options{Settings: map[string]string{"consumer_disconnected_timeout": "2000"}}, 3)
	}
	r := &ring{x: x, nodes: three.nodes}
	v, err := r.nodes[0].AddVHost(x.soon(), x.name)
	x.must(err, "adding a virtual host")
	r.site = x.site(v)
	x.t.Cleanup(func() {
		if x.t.Failed() {
			for _, n := range r.nodes {
				x.t.Logf("log of %s:\n%s", n.Name, n.Log(40))
			}
			closeRing(x.t) // it may not be whole
		} else if err := v.Delete(context.WithoutCancel(x.t.Context())); err != nil {
			x.t.Error(err)
		}
	})
	return r
}

func closeRing(t *testing.T) {
	if three.nodes == nil {
		return
	}
	if err := three.nodes[0].Close(); err != nil {
		t.Error(err)
	}
	three.nodes = nil
}

// at is a change of a client's config: it goes to the first of these nodes, and to the next ones
// if it must.
func (r *ring) at(order ...int) func(*amqp.Config) {
	return func(c *amqp.Config) {
		c.Addresses = nil
		for _, i := range order {
			c.Addresses = append(c.Addresses, fmt.Sprintf("127.0.0.1:%d", r.nodes[i].Port))
		}
	}
}

// whole waits until all nodes are there, and any of them may go.
func (r *ring) whole() {
	r.x.must(amqptest.AwaitCluster(r.x.soon(), r.nodes...), "waiting for the cluster")
}

// kill kills a node -9.
func (r *ring) kill(node int) {
	r.x.must(r.nodes[node].Flush(r.x.soon()), "writing down which queues there are")
	r.x.h.Add(history.Event{Op: history.Crash})
	r.x.must(r.nodes[node].Kill(), "killing a node")
}

// restart starts nodes again that were killed or stopped.
func (r *ring) restart(nodes ...int) {
	var starting sync.WaitGroup
	for _, i := range nodes {
		starting.Go(func() {
			if err := r.nodes[i].Restart(r.x.soon()); err != nil {
				r.x.errorf("starting a node again: %v", err)
			}
		})
	}
	starting.Wait()
	r.whole()
}

// leader returns the number of the node at which a quorum queue's leader is.
func (r *ring) leader(queue string) int {
	q, err := r.site.Queue(r.x.soon(), queue)
	r.x.must(err, "asking for "+queue)
	for i, n := range r.nodes {
		if n.Name == q.Node {
			return i
		}
	}
	r.x.fatalf("the leader of %s is at %q", queue, q.Node)
	return -1
}

// moveLeader has another node lead a quorum queue.
func (r *ring) moveLeader(queue string, to int) {
	r.x.await("the leader moves", func() bool { return r.site.MoveLeader(r.x.soon(), queue, r.nodes[to]) == nil })
}
