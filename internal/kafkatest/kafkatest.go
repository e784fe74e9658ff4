// Package kafkatest starts nodes of Kafka for tests of other modules than adapters/kafka.
package kafkatest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// command starts a node. It is of a module that a go.work has to know.
const command = "github.com/motifmq/motif/adapters/kafka/internal/node/start"

// Node is a node of Kafka on loopback, with a login, and with nothing in it. It ends with this
// process. Its methods are for one goroutine at a time.
type Node struct {
	URL string // of adapters/kafka

	process *exec.Cmd
	input   io.WriteCloser
	lines   *bufio.Reader
	said    strings.Builder // on its standard error; once it has ended
}

// Start starts a node. It says how to install Kafka where it is missing.
func Start(ctx context.Context) (*Node, error) {
	n := &Node{process: exec.CommandContext(context.WithoutCancel(ctx), "go", "run", command)}
	n.process.Stderr = &n.said
	input, err := n.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := n.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.input, n.lines = input, bufio.NewReader(output)
	if err := n.process.Start(); err != nil {
		return nil, err
	}
	return n, n.await(ctx)
}

// await waits until the node is ready. If it will not be, it has ended after that.
func (n *Node) await(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = n.input.Close() })
	defer stop()
	line, err := n.lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("no node of Kafka: %w", errors.Join(ctx.Err(), n.Close()))
	}
	n.URL = strings.TrimSpace(line)
	return nil
}

// Kill ends the node with no warning, and starts it again, with what it had stored.
func (n *Node) Kill(ctx context.Context) error {
	if _, err := fmt.Fprintln(n.input); err != nil {
		return err
	}
	return n.await(ctx)
}

// Close ends the node, and removes what it had stored.
func (n *Node) Close() error {
	_ = n.input.Close()
	err := n.process.Wait()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(n.said.String()))
	}
	return err
}
