// Command prepare has nodes of Kafka start in half the time: make kafka runs it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/motifmq/motif/adapters/kafka/internal/node"
)

func main() {
	if err := node.Prepare(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
