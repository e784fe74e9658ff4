package faults

import (
	"strconv"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
)

// leaderKilled: 09. Of three nodes the one with the queue's leader is killed -9.
// Some clients are connected to that one, and go to another before there is a new
// leader; some are not. Either way publishing goes on soon, and what was confirmed is
// on a majority of the nodes.
func leaderKilled(x *trial) {
	x.heartbeat = time.Minute // no connection may be lost but those to who is gone
	r := x.ring()
	// Each address list begins with the node to be connected to.
	consumer := r.site.connect("near consumer", r.at(1, 2, 0))
	near := r.site.connect("near", r.at(1, 2, 0))
	w := x.watcher()
	far := r.site.connect("far", r.at(0, 2), watch(w))
	x.consume(x.subscribe(consumer, from("jobs", 100)), 4, nil) // so that the queue's leader is there
	x.consume(x.subscribe(far, from("jobs", 100)), 4, nil)
	if leader := r.leader("jobs"); leader != 1 {
		r.moveLeader("jobs", 1)
	}

	n, f := x.stream(near, toQueue("jobs"), "near", 8, 1<<30, 100), x.stream(far, toQueue("jobs"), "far", 8, 1<<30, 100)
	x.flowing("messages flow", 500, n, f)
	r.kill(1)
	x.flowing("messages flow again, by another leader", 500, n, f)
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection to a node that lives was lost")
	}
	if r.leader("jobs") == 1 {
		x.errorf("the queue's leader is still at the node that was killed")
	}
	x.finish(n)
	x.finish(f)
	x.awaitHandled()
	r.restart(1)
}

// leaderMoves: 55. The leader of a queue moves from node to node under load, as when
// queues are rebalanced. Nobody loses a session for it, so that order is kept.
func leaderMoves(x *trial) {
	x.heartbeat = time.Minute // no connection may be lost
	r := x.ring()
	w := x.watcher()
	consumer := r.site.connect("consumer", r.at(0), watch(w))
	x.consume(x.subscribe(consumer, from("jobs", 20)), 1, nil)
	var streams []*stream
	for i := range r.nodes {
		name := "publisher-" + strconv.Itoa(i)
		streams = append(streams, x.stream(r.site.connect(name, r.at(i), watch(w)), toQueue("jobs"), name, 2, 1<<30, 100))
	}
	x.flowing("messages flow", 100, streams...)
	for range 2 {
		for to := range r.nodes {
			r.moveLeader("jobs", (to+1)%len(r.nodes))
			x.flowing("messages flow by another leader", 100, streams...)
		}
	}
	for _, s := range streams {
		x.finish(s)
	}
	x.awaitHandled()
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was lost")
	}
}

// flowing waits until so many messages more are confirmed in each stream.
func (x *trial) flowing(what string, more int64, streams ...*stream) {
	for _, s := range streams {
		before := s.confirmed.Load()
		x.await(what, func() bool { return s.confirmed.Load() >= before+more })
	}
}

// inOrder checks that what one publisher sent one by one came in that order, but for what
// was delivered before. The judge asks for this only as long as the first session lasts.
func (x *trial) inOrder(prefix string) {
	last := 0
	seen := map[string]bool{}
	for _, e := range x.h.Events() {
		number, ours := strings.CutPrefix(e.ID, prefix+"-")
		if e.Op != history.Deliver || !ours || e.Redelivered || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		n, err := strconv.Atoi(number)
		x.must(err, "the number of "+e.ID)
		if n < last {
			x.errorf("%s came after %s-%d", e.ID, prefix, last)
		}
		last = max(last, n)
	}
}
