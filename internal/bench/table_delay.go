package main

import (
	"fmt"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// atLeastOnce has a queue keep what is dead until its destination has it.
var atLeastOnce = amqp091.Table{"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}

// delayed is about messages that wait at the broker. How many come a second says nothing, as they
// wait: it is about what they cost.
//
// Above a minute nothing changes with the delay but the wait, which would take the run as long:
// each delay, rounded up by a twentieth at most, has one queue of its own, and a message goes
// through it and the exchange behind it once, however long it waits there. Only a delay that is
// new in its process takes another way, for a second. The row of 65 s waits that long, once, and
// has more messages, as the broker's CPU is that of the whole time.
func delayed() []Workload {
	const byHand = "a queue with a TTL, by hand"
	var all []Workload
	for _, d := range []time.Duration{1100 * time.Millisecond, 3100 * time.Millisecond} {
		w := Workload{
			Name: fmt.Sprint("delay/", d), Baseline: byHand, Messages: 3000, Pairs: 5,
			Ours: motifDelay(d), Theirs: rawDelay(d, nil),
		}
		safe := w
		safe.Baseline, safe.Target = byHand+", that loses nothing", Target{Broker: 1.5}
		safe.Theirs = rawDelay(d, atLeastOnce)
		if d > 2*time.Second { // it takes long, and differs by the wait only
			safe.Pairs, safe.Warmup = 3, -1
			all = append(all, safe)
			break
		}
		w.Pairs = 3
		all = append(all, safe, w)
	}
	minute := all[0]
	minute.Name, minute.Messages, minute.Pairs, minute.Warmup = fmt.Sprint("delay/", 65*time.Second), 20_000, 1, -1
	minute.Ours, minute.Theirs = motifDelay(65*time.Second), rawDelay(65*time.Second, atLeastOnce)
	return append(all, minute, Workload{
		Name: "retry/1.1s, a handler that fails once", Baseline: byHand + ", that loses nothing", Messages: 3000, Pairs: 5,
		Ours: motifRetry(1100 * time.Millisecond), Theirs: rawRetry(1100 * time.Millisecond), Target: Target{Broker: 1.5},
	})
}
