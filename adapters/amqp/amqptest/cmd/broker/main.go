// Command broker starts a RabbitMQ node to play with, prints where it is, and
// removes it on Ctrl-C. MOTIF_RABBITMQ in the environment is its version.
//
//	broker            start a node
//	broker -install   see that RabbitMQ is installed, all versions without MOTIF_RABBITMQ, and start nothing
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func main() {
	install := flag.Bool("install", false, "see that RabbitMQ is installed, and start nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *install); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, install bool) error {
	if install {
		return amqptest.Install(ctx, os.Stderr)
	}
	n, err := amqptest.Start(ctx, amqptest.Options{Management: true})
	if err != nil {
		return err
	}
	fmt.Printf("RabbitMQ %s\nAMQP_URL=%s\nmanagement: %s (guest, guest)\nCtrl-C stops it and removes its data.\n",
		n.Version, n.URL, n.ManagementURL())
	<-ctx.Done()
	return n.Close()
}
