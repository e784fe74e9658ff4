package amqptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Options say what is special about a node. The zero value is a plain one.
type Options struct {
	// Version of RabbitMQ, one of [Versions]: "4.3". Without it that of
	// MOTIF_RABBITMQ in the environment, else the newest that is installed.
	Version string

	// Settings of RabbitMQ, by key, as Erlang terms: {"channel_max": "8"}. Without
	// dead_letter_worker_publisher_confirm_timeout a delayed message or a dead letter that its
	// queue has not taken, as during a restart, is sent again after 5 seconds, where RabbitMQ
	// itself waits for 3 minutes.
	Settings map[string]string

	// Args are more arguments to the Erlang VM: "-kernel", "net_ticktime", "5".
	Args []string

	// Management adds the management plugin, see [Node.ManagementURL]. It takes
	// its time to start and more to stop.
	Management bool
}

// A Node is a RabbitMQ node of ours. Its methods may be called concurrently,
// except for those that start and end it.
type Node struct {
	*VHost // "/"

	Name    string // as Erlang knows it: n1@localhost
	Port    int    // AMQP, on 127.0.0.1
	Version string // of RabbitMQ: 4.3.6

	home     *home
	options  Options
	distPort int
	mgmtPort int
	cluster  []*Node // all nodes of its cluster, if it is in one

	mu      sync.Mutex
	process *process // the last one started
	control control  // of the running process
}

// startPatience is how long a start may take, on a machine that has much else
// to do. It takes 5 seconds on an idle one.
const startPatience = 90 * time.Second

// Start starts a node and returns when it is ready to be used. If ctx ends
// first, or the node does not start, nothing of it remains.
func Start(ctx context.Context, o Options) (*Node, error) {
	nodes, err := start(ctx, o, 1)
	if err != nil {
		return nil, err
	}
	return nodes[0], nil
}

// Close kills the node, and removes all it left. In a cluster it does so to
// all nodes.
func (n *Node) Close() error {
	err := n.home.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		<-n.process.exited
	}
	<-n.home.epmd.exited
	n.control = control{}
	return err
}

// Pid is the id of the node's operating system process, the last one if it was
// restarted.
func (n *Node) Pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process.cmd.Process.Pid
}

// ManagementURL is the address of the management plugin's page and API, for
// user guest with password guest. It is "" without that option.
func (n *Node) ManagementURL() string {
	if !n.options.Management {
		return ""
	}
	return fmt.Sprintf("http://127.0.0.1:%d", n.mgmtPort)
}

// Kill ends the node as a power cut does, and returns when it has ended.
//
// RabbitMQ notes a new quorum queue on disk after up to a second. A queue that is killed before
// that comes back empty, and confirmed messages are gone (seen with 3.10.8, 4.0.5 and 4.3.6). A
// test that is about something else calls Flush first.
func (n *Node) Kill() error {
	p, err := n.signal(syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.exited
	return n.ended()
}

// Flush makes the node write down which quorum queues it has: see Kill.
func (n *Node) Flush(ctx context.Context) error {
	return n.Eval(ctx, nil, `[ok = dets:sync(T) || T <- dets:all()], ok.`)
}

// Stop lets the node shut down in order. If ctx ends before it has, the node is
// killed, and the error says so.
func (n *Node) Stop(ctx context.Context) error {
	p, err := n.signal(syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-p.exited:
		return n.ended()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("node %s did not stop: %w", n.Name, ctx.Err()), n.Kill())
	}
}

// ended keeps the books about a process that is gone.
func (n *Node) ended() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.control = control{}
	return os.Remove(n.file("pid"))
}

// Restart starts the node again after Stop or Kill, on the same ports and data.
func (n *Node) Restart(ctx context.Context) error {
	n.mu.Lock()
	running := n.process.running()
	n.mu.Unlock()
	if running {
		return fmt.Errorf("node %s is running: stop or kill it first", n.Name)
	}
	return n.launch(ctx)
}

// Freeze stops the node in its tracks, and returns when it has stopped:
// connections stay open, and nothing comes out of them. Stop needs a Thaw
// first, Kill and Close do not.
func (n *Node) Freeze() error {
	p, err := n.signal(sigStop)
	if err != nil {
		return err
	}
	return awaitStop(p.cmd.Process.Pid)
}

// Thaw ends a Freeze.
func (n *Node) Thaw() error {
	_, err := n.signal(sigCont)
	return err
}

func (n *Node) signal(s syscall.Signal) (*process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.process.signal(s); err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Name, err)
	}
	return n.process, nil
}

// file is the path of one of the node's own files.
func (n *Node) file(extension string) string {
	return filepath.Join(n.home.folder, n.basename(extension))
}

func (n *Node) basename(extension string) string { return shortName(n.Name) + "." + extension }
