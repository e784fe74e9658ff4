// Command serve is a node of Kafka in a folder of its own. It says where it is, and in which
// process, and ends with its input.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/motifmq/motif/adapters/kafka/internal/node"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	dir, err := os.MkdirTemp("", "motif-kafka")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's for such things
	n, err := node.Start(context.Background(), dir)
	if err != nil {
		return err
	}
	fmt.Println(n.URL(), n.Pid())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, n.Kill())
}
