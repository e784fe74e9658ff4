#!/usr/bin/env bash
# A late acknowledgement takes a message of a JetStream stream that was made anew.
#
# An acknowledgement names stream, consumer and sequence numbers, not which stream of
# that name. One would guess that one for a message of a stream that has been deleted
# since is refused, or ignored. If stream and consumer have the same names, it
# acknowledges the message that has the same number now, which nobody has handled: of a
# work queue it is then gone. The client hears of no error, not even by DoubleAck.
#
# Seen with nats-server 2.15.2, nats.go 1.55.0:
#
#	fetched "old"; the stream is deleted, and made again; fetched "new"
#	"old" is acknowledged: <nil>
#	"new" was not: 0 messages are left, 0 in hand
set -euo pipefail
. "$(dirname "$0")/nats.bash"

program <<'END'
package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx, js := context.Background(), connect(start())
	fetch := func(text string) (jetstream.Consumer, jetstream.Msg) {
		must(js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Retention: jetstream.WorkQueuePolicy}))
		c := must(js.CreateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: "work", AckPolicy: jetstream.AckExplicitPolicy}))
		must(js.Publish(ctx, "orders", []byte(text)))
		return c, must(c.Next())
	}
	_, old := fetch("old")
	check(js.DeleteStream(ctx, "ORDERS"))
	c, fresh := fetch("new")
	fmt.Printf("fetched %q; the stream is deleted, and made again; fetched %q\n", old.Data(), fresh.Data())
	err := old.DoubleAck(ctx)
	fmt.Printf("%q is acknowledged: %v\n", old.Data(), err)
	left := must(must(js.Stream(ctx, "ORDERS")).Info(ctx)).State.Msgs
	inHand := must(c.Info(ctx)).NumAckPending
	fmt.Printf("%q was not: %d messages are left, %d in hand\n", fresh.Data(), left, inHand)
	expect(err == nil && left == 0 && inHand == 0)
}
END
