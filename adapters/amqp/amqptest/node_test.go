//go:build unix

package amqptest

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// publish puts a persistent message into a durable queue, and waits until the
// broker has it.
func publish(t *testing.T, url, queue, body string) {
	t.Helper()
	ch := channel(t, dial(t, url))
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		t.Fatal(err)
	}
	confirm, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "", queue, true, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := confirm.WaitContext(t.Context()); !ok || err != nil {
		t.Fatalf("confirmed %t, %v", ok, err)
	}
}

// get takes the next message off a queue; there has to be one, soon.
func get(t *testing.T, url, queue string) string {
	t.Helper()
	conn := dial(t, url)
	defer conn.Close()
	ch := channel(t, conn)
	deliveries, err := ch.ConsumeWithContext(t.Context(), queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-deliveries:
		return string(d.Body)
	case <-time.After(20 * time.Second):
		t.Fatalf("no message in %s", queue)
		return ""
	}
}

func TestNodeKeepsItsDataAndPorts(t *testing.T) {
	n := Private(t, Options{})
	pid, address := n.Pid(), n.URL

	publish(t, n.URL, "q", "first")
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body := get(t, n.URL, "q"); body != "first" {
		t.Errorf("after Stop: %q", body)
	}
	if err := n.Restart(t.Context()); err == nil {
		t.Error("restarted though it runs")
	}

	publish(t, n.URL, "q", "second")
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Eval(t.Context(), nil, "ok"); !errors.Is(err, errNotRunning) {
		t.Errorf("Eval in a dead node: %v", err)
	}
	if err := n.Stop(t.Context()); !errors.Is(err, errNotRunning) {
		t.Errorf("Stop of a dead node: %v", err)
	}
	if err := n.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body := get(t, n.URL, "q"); body != "second" {
		t.Errorf("after Kill: %q", body)
	}
	if n.Pid() == pid || n.URL != address {
		t.Errorf("pid %d, URL %s; before %d, %s", n.Pid(), n.URL, pid, address)
	}
}

// TestFlush: quorum queues that are new, the last of which is empty without it.
func TestFlush(t *testing.T) {
	n := Private(t, Options{})
	queues := []string{"a", "b", "c", "d"}
	for _, q := range queues {
		publish(t, n.URL, q, "kept in "+q)
	}
	if err := errors.Join(n.Flush(t.Context()), n.Kill(), n.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		if body := get(t, n.URL, q); body != "kept in "+q {
			t.Errorf("queue %s: %q", q, body)
		}
	}
}

// TestNode has what leaves a node as it was, and the end of it.
func TestNode(t *testing.T) {
	n := Private(t, Options{Management: true, Settings: map[string]string{"channel_max": "8"}})
	t.Run("settings", func(t *testing.T) { testSettings(t, n) })
	t.Run("alarms", func(t *testing.T) { testAlarms(t, n) })
	t.Run("management", func(t *testing.T) { testManagement(t, n) })
	t.Run("freeze and thaw", func(t *testing.T) { testFreezeAndThaw(t, n) })
	t.Run("close while frozen", func(t *testing.T) { testCloseWhileFrozen(t, n) })
}

func testSettings(t *testing.T, n *Node) {
	if conn := dial(t, n.URL); conn.Config.ChannelMax != 8 {
		t.Errorf("channel_max is %d", conn.Config.ChannelMax)
	}
}

func testFreezeAndThaw(t *testing.T, n *Node) {
	ch := channel(t, dial(t, n.URL))
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	declared := make(chan error, 1)
	go func() {
		_, err := ch.QueueDeclare("q", true, false, false, false, nil)
		declared <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.Eval(ctx, nil, "ok"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Eval in a frozen node: %v", err)
	}
	select {
	case err := <-declared:
		t.Errorf("a frozen node answered: %v", err)
	default:
	}
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-declared; err != nil {
		t.Errorf("after Thaw: %v", err)
	}
}

func testCloseWhileFrozen(t *testing.T, n *Node) {
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop of a frozen node: %v", err)
	}
	if err := syscall.Kill(n.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process should be gone: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.home.folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder should be gone: %v", err)
	}
}

func testAlarms(t *testing.T, n *Node) {
	conn := dial(t, n.URL)
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	ch := channel(t, conn)
	for alarm, set := range map[string]func(context.Context) error{"memory": n.MemoryAlarm, "disk": n.DiskAlarm} {
		if err := set(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list, err := n.Alarms(t.Context()); err != nil || len(list) != 1 || list[0] != alarm {
			t.Errorf("alarms %q, %v; want %q", list, err, alarm)
		}
		if err := ch.PublishWithContext(t.Context(), "", "nowhere", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if b := <-blocked; !b.Active {
			t.Errorf("under a %s alarm: %+v", alarm, b)
		}
		if err := n.ClearAlarms(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b := <-blocked; b.Active {
			t.Errorf("after the %s alarm: %+v", alarm, b)
		}
	}
}

// TestPluginsInUse: a node knows the plugins that it may enable, and no others, whose folders its
// start would look through for each module.
func TestPluginsInUse(t *testing.T) {
	n := Private(t, Options{})
	var known []string
	if err := n.Eval(t.Context(), &known, `[atom_to_binary(element(2, P)) || P <- rabbit_plugins:list(rabbit_plugins:plugins_dir())]`); err != nil {
		t.Fatal(err)
	}
	known = slices.DeleteFunc(known, func(name string) bool { return !strings.HasPrefix(name, "rabbitmq_") })
	slices.Sort(known)
	if want := []string{"rabbitmq_consistent_hash_exchange", "rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_web_dispatch"}; !slices.Equal(known, want) {
		t.Errorf("the plugins that it knows are %v, want %v", known, want)
	}
}

func TestPermissions(t *testing.T) {
	v := Shared(t)
	user := strings.ReplaceAll(v.Name, "/", "-")
	if err := v.AddUser(t.Context(), user, "pä/ss@"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.DeleteUser(context.WithoutCancel(t.Context()), user); err != nil {
			t.Error(err)
		}
	}()
	address := v.URLFor(user, "pä/ss@")
	if _, err := amqp.Dial(address); err == nil {
		t.Error("logged in without any permission")
	}
	if err := v.SetPermissions(t.Context(), user, "^mine$", "^$", "^$"); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, address)
	if _, err := channel(t, conn).QueueDeclare("mine", true, false, false, false, nil); err != nil {
		t.Error(err)
	}
	_, err := channel(t, conn).QueueDeclare("other", true, false, false, false, nil)
	if refused := (*amqp.Error)(nil); !errors.As(err, &refused) || refused.Code != amqp.AccessRefused {
		t.Errorf("declared what is not mine: %v", err)
	}
	if err := v.ChangePassword(t.Context(), user, "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := amqp.Dial(address); err == nil {
		t.Error("logged in with the old password")
	}
	dial(t, v.URLFor(user, "new"))
}

func TestFailedStartSaysWhy(t *testing.T) {
	h, err := newHome(t.Context(), "")
	orSkip(t, err)
	n := &Node{Name: "n1@localhost", home: h, distPort: h.epmdPort} // which is taken
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = n.launch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "could not bind to distribution port") {
		t.Fatalf("error without the log: %v", err)
	}
	if !portTaken(err) {
		t.Errorf("no reason to try other ports: %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
	defer cancel()
	_, err := Start(ctx, Options{})
	orSkip(t, skipOnly(err))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// skipOnly lets only that error through for which a test may be skipped.
func skipOnly(err error) error {
	if errors.Is(err, ErrMissing) {
		return err
	}
	return nil
}

func testManagement(t *testing.T, n *Node) {
	u, err := url.Parse(n.ManagementURL())
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestCluster(t *testing.T) {
	nodes := Cluster(t, Options{}, 3)
	publish(t, nodes[0].URL, "q", "replicated")
	q, err := nodes[1].Queue(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	var rest []*Node
	for _, n := range nodes {
		if n.Name != q.Node {
			rest = append(rest, n)
		} else if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if len(rest) != 2 {
		t.Fatalf("the queue is at %q", q.Node)
	}
	if body := get(t, rest[0].URL, "q"); body != "replicated" {
		t.Errorf("body %q", body)
	}
	conn := dial(t, rest[1].URL)
	if n, err := rest[0].CloseConnectionsOf(t.Context(), t.Name()); n == 0 || err != nil {
		t.Errorf("closed %d at another node, %v", n, err)
	}
	eventually(t, "the connection is closed", conn.IsClosed)
	eventually(t, "the cluster notices", func() bool {
		members, err := rest[1].Members(t.Context())
		return err == nil && len(members) == 2
	})
}

func TestIsolatedNode(t *testing.T) {
	nodes := Cluster(t, Options{Settings: map[string]string{"cluster_partition_handling": "pause_minority"}}, 3)
	publish(t, nodes[0].URL, "q", "replicated")
	alone, rest := nodes[2], nodes[:2]
	if err := alone.Isolate(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the others notice", func() bool {
		members, err := rest[0].Members(t.Context())
		return err == nil && len(members) == 2
	})
	eventually(t, "the node notices", func() bool {
		members, err := alone.Members(t.Context())
		return err == nil && len(members) < 2 // RabbitMQ before Khepri pauses it
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := AwaitCluster(ctx, rest...); err == nil {
		t.Error("each of them could go")
	}
	if body := get(t, rest[0].URL, "q"); body != "replicated" {
		t.Errorf("body %q", body)
	}
	if err := alone.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := AwaitCluster(t.Context(), nodes...); err != nil {
		t.Error(err)
	}
}

func TestMoveLeader(t *testing.T) {
	nodes := Cluster(t, Options{}, 3)
	publish(t, nodes[0].URL, "q", "replicated")
	for _, n := range []*Node{nodes[2], nodes[1], nodes[1], nodes[0]} {
		eventually(t, "the leader moves", func() bool { return nodes[0].MoveLeader(t.Context(), "q", n) == nil })
		if q, err := nodes[0].Queue(t.Context(), "q"); err != nil || q.Node != n.Name || q.Ready != 1 {
			t.Errorf("%+v, %v, want the leader to be at %s", q, err, n.Name)
		}
	}
}
