package amqptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// start starts one node, or a cluster of several, in a new home.
func start(ctx context.Context, o Options, count int) ([]*Node, error) {
	var err error
	for range 3 {
		var nodes []*Node
		if nodes, err = startOnce(ctx, o, count); err == nil {
			return nodes, nil
		}
		if !portTaken(err) {
			break
		}
	}
	return nil, err
}

// portTaken reports whether another program was faster to take one of the ports,
// as far as the log says.
func portTaken(err error) bool {
	return errors.Is(err, errEpmd) || strings.Contains(err.Error(), "eaddrinuse") ||
		strings.Contains(err.Error(), "dist_port_already_used")
}

func startOnce(ctx context.Context, o Options, count int) ([]*Node, error) {
	h, err := newHome(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	nodes := make([]*Node, count)
	failed := make(chan error, count)
	for i := range nodes {
		ports, err := freePorts(3)
		if err != nil {
			return nil, errors.Join(err, h.close())
		}
		n := &Node{Name: fmt.Sprintf("n%d@localhost", i+1), Port: ports[0], home: h, options: o, distPort: ports[1], mgmtPort: ports[2]}
		if count > 1 {
			n.cluster = nodes
		}
		n.VHost = n.vhost("/")
		nodes[i] = n
	}
	for _, n := range nodes {
		go func() { failed <- n.launch(ctx) }()
	}
	for range nodes {
		err = errors.Join(err, <-failed)
	}
	if err == nil {
		err = awaitCluster(ctx, nodes)
	}
	for _, n := range nodes {
		if err == nil {
			err = n.Eval(ctx, &n.Version, `{ok, Version} = application:get_key(rabbit, vsn), list_to_binary(Version)`)
		}
	}
	if err == nil {
		return nodes, nil
	}
	return nil, errors.Join(err, nodes[0].Close())
}

// launch starts the node's process and waits until RabbitMQ is ready in it.
func (n *Node) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := n.writeFiles(); err != nil {
		return err
	}
	console, err := os.Create(n.file("console"))
	if err != nil {
		return err
	}
	defer console.Close() //nolint:errcheck // the child has its own

	token := rand.Text()
	command := []string{n.home.server, "-kernel", "inet_dist_use_interface", "{127,0,0,1}"}
	command = append(command, n.options.Args...)
	cmd := n.home.command(n.file("pid"), append(command, "-eval", controlProgram)...)
	cmd.Env = n.environment(token)
	cmd.Stdout, cmd.Stderr = console, console
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()

	var port []byte
	err = poll(ctx, p, func() bool {
		port, err = os.ReadFile(n.file("control"))
		return err == nil
	})
	if err != nil {
		err = fmt.Errorf("node %s did not start: %w\n%s", n.Name, err, n.Log(40))
		if p.running() {
			err = errors.Join(err, n.Kill())
		}
		return err
	}
	n.mu.Lock()
	n.control = control{net.JoinHostPort("127.0.0.1", string(port)), token}
	n.mu.Unlock()
	return nil
}

// writeFiles writes what the node reads at its start.
func (n *Node) writeFiles() error {
	if err := os.Remove(n.file("control")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	plugins := "[rabbitmq_consistent_hash_exchange]." // an exchange of a type that is not AMQP's
	if n.options.Management {
		plugins = "[rabbitmq_consistent_hash_exchange,rabbitmq_management]."
	}
	if err := os.WriteFile(n.file("plugins"), []byte(plugins), 0o600); err != nil {
		return err
	}
	return os.WriteFile(n.file("config"), []byte(n.configuration()), 0o600)
}

// configuration is in Erlang's form: translating the other one, rabbitmq.conf,
// costs the node a second.
func (n *Node) configuration() string {
	rabbit := map[string]string{
		"tcp_listeners":   fmt.Sprintf(`[{"127.0.0.1", %d}]`, n.Port),
		"disk_free_limit": strconv.Itoa(diskFreeLimit),
		// After a restart a message may be due before the queue that it goes to is up.
		"dead_letter_worker_publisher_confirm_timeout": "5000",
	}
	if n.cluster != nil {
		rabbit["cluster_nodes"] = fmt.Sprintf("{[%s], disc}", atoms(n.cluster))
	}
	maps.Copy(rabbit, n.options.Settings)
	var settings []string
	for _, key := range slices.Sorted(maps.Keys(rabbit)) {
		settings = append(settings, fmt.Sprintf("{%s, %s}", key, rabbit[key]))
	}
	return fmt.Sprintf("[{rabbit, [%s]},\n {rabbitmq_management, [{listener, [{ip, \"127.0.0.1\"}, {port, %d}]}]}].\n",
		strings.Join(settings, ",\n  "), n.mgmtPort)
}

// environment has nothing of ours but what any program needs: a variable for
// the broker of the system would be one for this node, too.
func (n *Node) environment(token string) []string {
	home := n.home.inside()
	file := func(extension string) string { return filepath.Join(home, n.basename(extension)) }
	env := []string{
		"PATH=" + filepath.Dir(n.home.server) + ":" + os.Getenv("PATH") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"TMPDIR=" + home,
		"LANG=C.UTF-8",
		"HOME=" + home, // of the cookie
		"ERL_EPMD_PORT=" + strconv.Itoa(n.home.epmdPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_CRASH_DUMP_SECONDS=0",
		"MOTIF_CONTROL_FILE=" + file("control"),
		"MOTIF_CONTROL_TOKEN=" + token,
		"RABBITMQ_NODENAME=" + n.Name,
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(n.distPort),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + file("config"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + file("generated"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + file("plugins"),
		"RABBITMQ_MNESIA_BASE=" + file("data"),
		"RABBITMQ_LOG_BASE=" + home,
		"RABBITMQ_LOGS=" + file("log"),
		"RABBITMQ_PID_FILE=" + file("rabbitmq-pid"),
		// A scheduler with nothing to do leaves the CPU to others at once, of whom
		// there are many, and does not wait for work first.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none",
		// The script is to become the node, not to wait for it: signals go to
		// the node itself then, and there is one process less.
		"detached=yes",
	}
	if n.home.plugins != "" {
		env = append(env, "RABBITMQ_PLUGINS_DIR="+filepath.Join(home, n.home.plugins))
	}
	return env
}

// Log returns the last lines of what the node logged, for a failed test.
func (n *Node) Log(lines int) string {
	var all []byte
	for _, extension := range []string{"console", "log"} {
		text, err := os.ReadFile(n.file(extension))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // no log yet
			text = []byte(err.Error())
		}
		all = append(all, lastLines(text, lines)...)
	}
	return string(all)
}

// complaints returns the last lines in which the node is not content: on one
// that tests share, the others are of no use.
func (n *Node) complaints(lines int) string {
	text, err := os.ReadFile(n.file("log"))
	if err != nil {
		return err.Error()
	}
	var bad []byte
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(" [info] ")) && !bytes.Contains(line, []byte(" [notice] ")) {
			bad = append(bad, line...)
		}
	}
	return string(lastLines(bad, lines))
}

func lastLines(text []byte, count int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-count-1):], nil)
}

// shortName is an Erlang node's name without its host.
func shortName(name string) string { return strings.Split(name, "@")[0] }
