package main

import (
	"context"
	"errors"
)

// A service that declares: so many work queues, and as many groups of exchanges of their own, each
// with dead letters. One "message" is the whole service.
const (
	declaredQueues = 10
	declaredGroups = 10
)

// declaring is about the topology of a service. What is new takes the broker its time: each queue
// is a Raft cluster that begins, whoever asks for it. The baseline with several channels shows how
// much of that it can do at once.
func declaring() []Workload {
	const oneByOne = rawClient + ", one after another"
	row := func(name, baseline string, ours, theirs Side) Workload {
		return Workload{Name: "declare/" + name, Baseline: baseline, Messages: 1, Pairs: 5, Ours: ours, Theirs: theirs}
	}
	main := row("20 queues and groups", oneByOne, motifDeclare(true, false), rawDeclare(1, false))
	main.Target = Target{Rate: 2}
	limit := row("20 queues and groups", rawClient+", on 8 channels", motifDeclare(true, false), rawDeclare(8, false))
	limit.Limit = true
	again := row("20 queues and groups that exist", oneByOne, motifDeclare(true, true), rawDeclare(1, true))
	again.Target = Target{Rate: 1}
	return []Workload{
		main, limit, again,
		row("20 queues and groups, one after another", oneByOne, motifDeclare(false, false), rawDeclare(1, false)),
	}
}

// starting is about the time from the start of a process until it has handled its first message.
// The program is the same on both sides, but for what it does then: it connects to publish and to
// consume, declares a work queue with dead letters, consumes, and handles a message, which either
// waits there or is its own.
func starting() []Workload {
	const byHand = rawClient + ", two connections"
	row := func(name string, new, waits bool) Workload {
		w := Workload{
			Name: "start/" + name, Baseline: byHand, Messages: 1, Pairs: 9,
			Ours: motifStart(new, waits), Theirs: rawStart(new, waits),
		}
		if !new {
			w.Prepare = prepareStart(waits)
		}
		return w
	}
	waits, none := row("declared, a message waits", false, true), row("declared, an empty queue", false, false)
	waits.Target, none.Target = Target{Rate: 0.83}, Target{Rate: 0.83}
	return []Workload{waits, none, row("empty", true, false)}
}

// prepareStart declares what those that start find.
func prepareStart(waits bool) func(context.Context, string) (func() error, error) {
	return func(_ context.Context, url string) (func() error, error) {
		conn, ch, err := dialRaw(url)
		if err != nil {
			return nil, err
		}
		if err = declareRawWithDead(ch, startQueue); err == nil && waits {
			err = leaveOne(url, startQueue)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return func() error {
			return errors.Join(deleteRaw(url, startQueue), deleteRaw(url, startQueue+".dead"), conn.Close())
		}, nil
	}
}

const manySubscriptions = 1000

// subscribing is about many subscriptions of one process: each to a queue of its own on the same
// exchange, or to a hundred work queues with dead letters. One "message" is one subscription: back
// when it consumes again, and idle for as long as idleTime, where its CPU is that of the whole
// time.
func subscribing() []Workload {
	row := func(name string, theirs string, do func(opener) Side, ours, raw opener) Workload {
		return Workload{Name: "subscriptions/" + name, Baseline: theirs, Messages: manySubscriptions, Pairs: 2, Warmup: -1, Ours: do(ours), Theirs: do(raw)}
	}
	const oneByOne, together = rawClient + ", one after another", rawClient + ", 64 at a time"
	back := row("1000 back after a cut", oneByOne, backAfterACut, openMotif, openRaw(1))
	limit := row("1000 back after a cut", together, backAfterACut, openMotif, openRaw(64))
	work := row("1000 to 100 work queues, back after a cut", oneByOne, backAfterACut, openMotifWork, openRawWork(1))
	back.Target, limit.Limit, work.Target = Target{Rate: 2}, true, Target{Rate: 2}
	work.Prepare = prepareWork
	return []Workload{back, limit, work, row("1000 idle", rawClient, idle, openMotif, openRaw(1))}
}

// failing is about a handler that always fails: a message goes to the dead letters after five
// attempts.
func failing() []Workload {
	const byHand = rawClient + ", queues with a TTL"
	row := func(baseline string, spread bool) Workload {
		return Workload{
			Name: "fail/to the dead letters, end to end", Baseline: baseline, Messages: 1000, Pairs: 3, Warmup: -1,
			Ours: motifFail, Theirs: rawFail(spread),
		}
	}
	main, limit := row(byHand, false), row(byHand+", that spreads waits and says why", true)
	main.Target, limit.Limit = Target{Broker: 1.5}, true
	return []Workload{main, limit}
}
