#!/usr/bin/env bash
# JetStream counts a message that was given back among those that are in hand.
#
# A consumer's NumPending says how many messages wait, and NumAckPending how many
# were delivered and are not acknowledged. One would guess that Nak moves a message
# from the second to the first. It stays in the second until it is delivered again,
# which may be never if nobody asks: what waits is then shown as being at work, and a
# scaler that goes by NumPending sees an empty queue.
#
# Seen with nats-server 2.15.2, nats.go 1.55.0:
#
#	three are published: 3 wait, 0 in hand
#	all are fetched: 0 wait, 3 in hand
#	all are given back: 0 wait, 3 in hand
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
	ctx, js := context.Background(), connect(start())
	must(js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Retention: jetstream.WorkQueuePolicy}))
	c := must(js.CreateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: "work", AckPolicy: jetstream.AckExplicitPolicy}))
	look := func(what string, wait uint64, inHand int) {
		info := must(c.Info(ctx))
		fmt.Printf("%s: %d wait, %d in hand\n", what, info.NumPending, info.NumAckPending)
		expect(info.NumPending == wait && info.NumAckPending == inHand)
	}
	for range 3 {
		must(js.Publish(ctx, "orders", nil))
	}
	look("three are published", 3, 0)
	batch := must(c.Fetch(3, jetstream.FetchMaxWait(10*time.Second)))
	var got []jetstream.Msg
	for m := range batch.Messages() {
		got = append(got, m)
	}
	look("all are fetched", 0, 3)
	for _, m := range got {
		check(m.Nak())
	}
	check(js.Conn().Flush())
	time.Sleep(time.Second)
	look("all are given back", 0, 3)
}
END
