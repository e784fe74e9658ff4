// Command motif looks after the queues of a broker: it shows, explains, repairs and replays dead
// letters, lists queues, follows topics, sends, calls and pings. It also serves a page of
// queues and dead letters.
//
//	motif dead list orders.dead
//	motif help
//
// The broker is that of -url, or else of MOTIF_URL or AMQP_URL in the environment. Its commands are
// described in docs/command.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/motifmq/motif/adapters/amqp"
	_ "github.com/motifmq/motif/adapters/memory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
