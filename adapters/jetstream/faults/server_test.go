package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	_ "github.com/motifmq/motif/adapters/jetstream" // makes its URLs known
	"github.com/motifmq/motif/conformance/trial"
)

// A child is this test program, told by this variable what to be.
const roleVar = "MOTIF_FAULTS_CHILD"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		os.Exit(m.Run())
	case "server":
		child(serve)
	case "worker":
		child(hold)
	}
}

// child reads from its input what to do, does it, and ends with its parent.
func child[T any](f func(T) error) {
	in := json.NewDecoder(os.Stdin)
	var task T
	err := in.Decode(&task)
	if err == nil {
		err = f(task)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// startChild starts one, and returns when it is ready. A line of its output that says something
// else is passed to said.
func startChild(role string, task any, said func(string)) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program) //nolint:noctx // it is ended by a signal, and with this process
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "ready" {
				ready <- nil
			} else {
				said(lines.Text())
			}
		}
		ready <- errors.New("it has ended")
	}()
	err = json.NewEncoder(in).Encode(task)
	if err == nil {
		err = <-ready
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("starting a %s: %w", role, err)
	}
	return cmd, nil
}

// serverTask is what a server is.
type serverTask struct {
	Name, Folder string
	Port         int
	ClusterPort  int // 0: it is alone
	Routes       string
	MaxStore     int64 // in bytes; 0: as much as there is
}

func serve(task serverTask) error {
	o := &server.Options{
		ServerName: task.Name, Host: "127.0.0.1", Port: task.Port, Username: user, Password: password,
		JetStream: true, StoreDir: task.Folder, JetStreamMaxStore: task.MaxStore, NoSigs: true, NoLog: true,
	}
	if task.ClusterPort > 0 {
		o.Cluster = server.ClusterOpts{Name: "faults", Host: "127.0.0.1", Port: task.ClusterPort}
		o.Routes = server.RoutesFromStr(task.Routes)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the server does not start")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		s.Shutdown()
		s.WaitForShutdown()
		os.Exit(0)
	}()
	return nil
}

// The login of the servers.
const (
	user     = "motif"
	password = "s3cr3t-passw0rd"
)

// node is a server.
type node struct {
	x    *trial.Trial
	task serverTask

	mu  sync.Mutex
	cmd *exec.Cmd // nil while it is down
}

// startNode starts a server of its own.
func startNode(x *trial.Trial, maxStore int64) *node {
	n := &node{x: x, task: serverTask{Name: "n0", Folder: x.TempDir(), Port: freePort(x), MaxStore: maxStore}}
	n.start()
	x.AtEnd(func(context.Context) error { n.kill(); return nil })
	return n
}

// startRing starts a cluster of three, and returns when it works.
func startRing(x *trial.Trial) ring {
	r := ring{}
	var routes []string
	for i := range 3 {
		r = append(r, &node{x: x, task: serverTask{Name: fmt.Sprint("n", i), Folder: x.TempDir(), Port: freePort(x), ClusterPort: freePort(x)}})
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", r[i].task.ClusterPort))
	}
	for _, n := range r {
		n.task.Routes = strings.Join(routes, ",")
		n.start()
		x.AtEnd(func(context.Context) error { n.kill(); return nil })
	}
	x.Await("the cluster works", func() bool {
		return r.ask(func(js jetstream.JetStream) error {
			_, err := js.CreateOrUpdateStream(x.Brief(), jetstream.StreamConfig{Name: "probe", Subjects: []string{"probe"}, Replicas: 3})
			return err
		}) == nil
	})
	return r
}

func freePort(x *trial.Trial) int {
	port, err := trial.FreePort()
	x.Must(err, "finding a port")
	return port
}

func (n *node) start() {
	cmd, err := startChild("server", n.task, func(string) {})
	n.x.Must(err, "starting server "+n.task.Name)
	n.mu.Lock()
	n.cmd = cmd
	n.mu.Unlock()
}

// signal sends one to the server, if it runs.
func (n *node) signal(s os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(s)
	}
}

// end ends the server by a signal, and returns when it has ended.
func (n *node) end(s os.Signal) {
	n.signal(s)
	n.mu.Lock()
	cmd := n.cmd
	n.cmd = nil
	n.mu.Unlock()
	if cmd != nil {
		_ = cmd.Wait() // by a signal
	}
}

func (n *node) kill() { n.end(syscall.SIGKILL) }
func (n *node) stop() { n.end(syscall.SIGTERM) }
func (n *node) thaw() { n.signal(syscall.SIGCONT) }

// freeze returns once the server stands still, which takes it a moment.
func (n *node) freeze() {
	n.signal(syscall.SIGSTOP)
	n.mu.Lock()
	threads := fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid)
	n.mu.Unlock()
	n.x.Await("server "+n.task.Name+" stands still", func() bool {
		all, err := filepath.Glob(threads)
		n.x.Must(err, "looking for threads")
		for _, stat := range all {
			text, err := os.ReadFile(stat)
			if err != nil {
				return false // it has just ended
			}
			if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
}

func (n *node) addr() string { return fmt.Sprint("127.0.0.1:", n.task.Port) }

// urlAt is the address of the servers at the given hosts and ports.
func urlAt(replicas int, addrs ...string) string {
	query := url.Values{"server": addrs[1:], "replicas": {fmt.Sprint(replicas)}}
	u := url.URL{Scheme: "nats", User: url.UserPassword(user, password), Host: addrs[0], RawQuery: query.Encode()}
	return u.String()
}

// ring is a cluster.
type ring []*node

// url is the cluster's address, with these first.
func (r ring) url(first ...int) string {
	var addrs []string
	for _, i := range first {
		addrs = append(addrs, r[i].addr())
	}
	return urlAt(len(r), addrs...)
}

// ask calls f with another client.
func (r ring) ask(f func(jetstream.JetStream) error) error {
	var servers []string
	for _, n := range r {
		servers = append(servers, "nats://"+n.addr())
	}
	nc, err := nats.Connect(strings.Join(servers, ","), nats.UserInfo(user, password), nats.Timeout(5*time.Second))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return f(js)
}

// networkBefore is a network before a server.
func networkBefore(x *trial.Trial, n *node) *amqptest.Proxy {
	p, err := amqptest.NewProxy("amqp://" + n.addr())
	x.Must(err, "starting a proxy")
	x.AtEnd(func(context.Context) error { p.Close(); return nil })
	return p
}

// leader returns the number of the node that leads a queue.
func (r ring) leader(x *trial.Trial, queue string) int {
	leader := -1
	x.Await("queue "+queue+" has a leader", func() bool {
		_ = r.ask(func(js jetstream.JetStream) error {
			stream, err := js.Stream(x.Brief(), "MOTIF_Q_"+queue)
			if err != nil || stream.CachedInfo().Cluster == nil {
				return err
			}
			for i, n := range r {
				if n.task.Name == stream.CachedInfo().Cluster.Leader {
					leader = i
				}
			}
			return nil
		})
		return leader >= 0
	})
	return leader
}
