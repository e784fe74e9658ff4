// Package node starts private nodes of Kafka, for tests: each a process on loopback that is broker
// and controller, with its own ports, and its data in a folder of its own, alone or in a cluster.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Newest is the version of Kafka that tests run on, unless the environment's MOTIF_KAFKA is one.
const Newest = "4.4.0"

// The login of the nodes.
const (
	User     = "motif"
	Password = "s3cr3t-passw0rd"
)

// Lock is how long the broker keeps what a client holds that says nothing.
const Lock = 6 * time.Second

// DeliveryLimit is after how many deliveries the broker drops a record: one less than usual.
const DeliveryLimit = 4

// ErrMissing is that there is no Kafka, or no Java, on this machine.
var ErrMissing = errors.New("Kafka is missing: make kafka installs it, or says how; MOTIF_BROKER=skip skips what needs it") //nolint:staticcheck // a name

// Node is a node of Kafka. Its methods are for one goroutine at a time.
type Node struct {
	dir  string // of its data
	jars string
	java string
	id   int // in its cluster, from 1 on
	port int // for clients

	archive string // an option of Java: the classes that a node loads, for a start in half the time

	process *exec.Cmd
	ended   chan struct{} // closed when the process has
}

// Start starts a node with nothing in it, with its data in a folder.
func Start(ctx context.Context, dir string) (*Node, error) { return StartBehind(ctx, dir, nil) }

// StartBehind is Start of a node that tells its clients to connect elsewhere: where it says to,
// given its own address. That may be a network that can fail.
func StartBehind(ctx context.Context, dir string, network func(addr string) (string, error)) (*Node, error) {
	nodes, err := createAll(ctx, dir, 1, network)
	if err != nil {
		return nil, err
	}
	return nodes[0], nodes[0].Restart(ctx)
}

// StartCluster starts nodes that keep each topic three times.
func StartCluster(ctx context.Context, dir string, many int) ([]*Node, error) {
	nodes, err := createAll(ctx, dir, many, nil)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes { // none is ready before a second one is
		err = errors.Join(err, n.launch(ctx))
	}
	for _, n := range nodes {
		if err == nil {
			err = n.ready(ctx)
		}
	}
	if err == nil {
		return nodes, nil
	}
	for _, n := range nodes {
		if n.process != nil {
			err = errors.Join(err, n.Kill())
		}
	}
	return nil, err
}

// Prepare has nodes start faster from now on. It starts one and stops it.
func Prepare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "motif-kafka")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's for such things
	nodes, err := createAll(ctx, dir, 1, nil)
	if err != nil {
		return err
	}
	n := nodes[0]
	part := n.classes() + ".part"
	n.archive = "-XX:ArchiveClassesAtExit=" + part
	if err := n.Restart(ctx); err != nil {
		return err
	}
	if err := n.Stop(ctx); err != nil {
		return err
	}
	return os.Rename(part, n.classes())
}

func (n *Node) classes() string { return n.jars + ".jsa" }

func createAll(ctx context.Context, dir string, many int, network func(string) (string, error)) (nodes []*Node, err error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	jars := filepath.Join(cache, "motif", "kafka-"+cmp.Or(os.Getenv("MOTIF_KAFKA"), Newest))
	if _, err := os.Stat(jars); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	ports, err := freePorts(ctx, 3*many) // of each for clients, for brokers and for controllers
	if err != nil {
		return nil, err
	}
	for i := range many {
		n := &Node{id: i + 1, java: java, jars: jars, port: ports[i], dir: filepath.Join(dir, fmt.Sprint("node-", i+1))}
		if _, err := os.Stat(n.classes()); err == nil {
			n.archive = "-XX:SharedArchiveFile=" + n.classes()
		}
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return nil, err
		}
		outside := n.Addr()
		if network != nil {
			if outside, err = network(outside); err != nil {
				return nil, err
			}
		}
		if err := os.WriteFile(n.settings(), []byte(n.describe(ports, outside)), 0o600); err != nil {
			return nil, err
		}
		format := n.command(ctx, "kafka.tools.StorageTool", "format", "-t", "bW90aWYtbW90aWYtbW90aQ", "-c", n.settings())
		if out, err := format.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("formatting a node of Kafka: %w\n%s", err, out)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (n *Node) settings() string { return filepath.Join(n.dir, "server.properties") }

func (n *Node) command(ctx context.Context, class string, args ...string) *exec.Cmd {
	options := []string{
		"-Xms64m", "-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(n.jars, "*"),
	}
	if n.archive != "" {
		options = append(options, n.archive)
	}
	return exec.CommandContext(ctx, n.java, slices.Concat(options, []string{class}, args)...)
}

// describe returns the settings of a small node that is for few, whose clients find it elsewhere.
func (n *Node) describe(ports []int, outside string) string {
	many := len(ports) / 3
	var voters []string
	for i := range many {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*many+i]))
	}
	own := n.id - 1
	lines := []string{
		fmt.Sprint("node.id=", n.id), "process.roles=broker,controller", "log.dirs=" + filepath.Join(n.dir, "data"),
		"controller.quorum.voters=" + strings.Join(voters, ","),
		fmt.Sprintf("listeners=CLIENTS://127.0.0.1:%d,INSIDE://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", n.port, ports[many+own], ports[2*many+own]),
		fmt.Sprintf("advertised.listeners=CLIENTS://%s,INSIDE://127.0.0.1:%d", outside, ports[many+own]),
		"listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=INSIDE", "controller.listener.names=CONTROLLER",
		"sasl.enabled.mechanisms=PLAIN",
		fmt.Sprintf(`listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, User, Password),
		"auto.create.topics.enable=false", "log.index.size.max.bytes=65536",
		"broker.session.timeout.ms=4000", "broker.heartbeat.interval.ms=500", // others notice that it is gone
		"group.share.min.record.lock.duration.ms=1000", fmt.Sprintf("group.share.record.lock.duration.ms=%d", Lock.Milliseconds()),
		fmt.Sprintf("group.share.delivery.count.limit=%d", DeliveryLimit), "group.share.max.size=1000", "group.share.max.share.sessions=10000",
		"group.share.assignment.interval.ms=0",                                                 // a second, else
		"group.initial.rebalance.delay.ms=0",                                                   // three seconds, else
		"group.share.min.heartbeat.interval.ms=1000", "group.share.heartbeat.interval.ms=1000", // 5 seconds, else
	}
	copies := min(many, 3)
	for _, topic := range []string{"offsets.topic", "transaction.state.log", "share.coordinator.state.topic"} {
		lines = append(lines, fmt.Sprintf("%s.replication.factor=%d", topic, copies), topic+".num.partitions=1")
	}
	least := max(1, copies-1)
	lines = append(lines,
		fmt.Sprint("default.replication.factor=", copies), fmt.Sprint("min.insync.replicas=", least),
		fmt.Sprint("transaction.state.log.min.isr=", least), fmt.Sprint("share.coordinator.state.topic.min.isr=", least))
	return strings.Join(lines, "\n") + "\n"
}

// freePorts returns ports of loopback that nobody listens on. They are below those that systems
// give to clients, one of which could come before a node that is started again.
func freePorts(ctx context.Context, n int) (ports []int, err error) {
	for range 100 * n {
		if len(ports) == n {
			break
		}
		port := 10_000 + rand.IntN(10_000)
		l, listenErr := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprint("127.0.0.1:", port))
		if listenErr != nil {
			err = listenErr // maybe it is taken
			continue
		}
		defer l.Close() //nolint:errcheck // nobody has connected
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, err
	}
	return ports, nil
}

// Addr is where clients connect.
func (n *Node) Addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// Pid is the process of the node.
func (n *Node) Pid() int { return n.process.Process.Pid }

// URL is that of the adapter.
func (n *Node) URL() string {
	return (&url.URL{Scheme: "kafka", User: url.UserPassword(User, Password), Host: n.Addr()}).String()
}

// Restart starts the node again, with what it has stored, after Stop or Kill.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.launch(ctx); err != nil {
		return err
	}
	return n.ready(ctx)
}

// launch starts the process.
func (n *Node) launch(ctx context.Context) error {
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own
	process := n.command(context.WithoutCancel(ctx), "kafka.Kafka", n.settings())
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = dieWithUs()
	ended := make(chan struct{})
	started := make(chan error)
	go func() {
		// A process that is to die with its parent dies with the thread that made it.
		unlock := lockThread()
		defer unlock()
		err := process.Start()
		started <- err
		if err == nil {
			_ = process.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	n.process, n.ended = process, ended
	return nil
}

func (n *Node) log() string { return filepath.Join(n.dir, "log") }

// ready waits until clients can connect.
func (n *Node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", n.Addr())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-n.ended:
			said, _ := os.ReadFile(n.log())
			return fmt.Errorf("the node of Kafka has ended: %v\n%s", n.process.ProcessState, said[max(0, len(said)-4000):])
		case <-ctx.Done():
			_ = n.Kill()
			return fmt.Errorf("the node of Kafka does not start: %w", ctx.Err())
		}
	}
}

// Stop ends the node in order, as an operator does.
func (n *Node) Stop(ctx context.Context) error {
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-n.ended:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), n.Kill())
	}
}

// Kill ends the node with no warning.
func (n *Node) Kill() error {
	err := n.process.Process.Kill()
	<-n.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Freeze has the process stand still until thaw is called.
func (n *Node) Freeze() (thaw func() error, err error) {
	return sync.OnceValue(func() error { return n.process.Process.Signal(syscall.SIGCONT) }), n.process.Process.Signal(syscall.SIGSTOP)
}
