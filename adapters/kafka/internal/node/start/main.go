// Command start starts a node of Kafka for the tests of other modules, and prints its URL. Each
// line of its standard input has it kill the node and start it again, after which it prints the
// URL once more. When the input ends, as it does with the process that wrote it, so does the node.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/motifmq/motif/adapters/kafka/internal/node"
)

func main() {
	signal.Ignore(os.Interrupt) // is for who runs us
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "motif-kafka")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := node.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Kill()) }()
	fmt.Println(n.URL())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if err := errors.Join(n.Kill(), n.Restart(ctx)); err != nil {
			return err
		}
		fmt.Println(n.URL())
	}
	return input.Err()
}
