#!/usr/bin/env bash
# A consumer does not count messages yet that JetStream has confirmed.
#
# Its NumPending says how many messages wait for it. One would guess that on one
# server, with nobody else about, a message whose publish was confirmed is among
# them. A server confirms a message and tells its consumers of it afterwards: for a
# moment, a longer one on a busy machine, NumPending may be short of many, and who
# takes as many as it says leaves confirmed ones behind. The stream counts them all.
#
# Seen with nats-server 2.15.2, nats.go 1.55.0; in how many looks changes from run to
# run:
#
#	500 looks at all that was confirmed: in 30 the consumer counted less, at most 2800
#	a second later it counts 100000 of 100000
set -euo pipefail
. "$(dirname "$0")/nats.bash"

program <<'END'
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	const looks, each = 500, 200
	ctx, js := context.Background(), connect(start())
	s := must(js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Retention: jetstream.WorkQueuePolicy}))
	c := must(js.CreateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: "work", AckPolicy: jetstream.AckExplicitPolicy}))
	short, most := 0, 0
	for look := range looks {
		for range each {
			must(js.PublishAsync("orders", nil))
		}
		<-js.PublishAsyncComplete()
		pending := int(must(c.Info(ctx)).NumPending)
		stored := int(must(s.Info(ctx)).State.Msgs)
		if stored != (look+1)*each {
			check(fmt.Errorf("%d messages of %d", stored, (look+1)*each))
		}
		if pending < stored {
			short++
			most = max(most, stored-pending)
		}
	}
	fmt.Printf("%d looks at all that was confirmed: in %d the consumer counted less, at most %d\n", looks, short, most)
	expect(short > 0)
	time.Sleep(time.Second)
	pending := must(c.Info(ctx)).NumPending
	fmt.Printf("a second later it counts %d of %d\n", pending, looks*each)
	expect(pending == looks*each)
}
END
