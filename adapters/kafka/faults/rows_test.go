package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	sasl "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/conformance/history"
)

// rows are all there are. What is not here is not checked. They share a broker, one after another,
// but for the last, which has three.
var rows = []struct {
	name, fault string
	run         func(*trial)
}{
	{"restart", "broker stopped in order and started again under load", restart},
	{"kill-9", "broker killed -9 under load", killed},
	{"freeze", "broker frozen for longer than its clients wait", freeze},
	{"killed-worker", "process killed -9 while handling, three times: others handle it", killedWorker},
	{"cut", "connections cut again and again under load", cut},
	{"delayed", "broker killed -9, and a process that moves, while messages are delayed", delayed},
	{"leader-killed", "broker that leads the queue killed -9, one of three", leaderKilled},
}

func TestFaults(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "attempted\tconfirmed\tunknown\tdelivered\tduplicated\tunexpected\tlost\ttook\t\t fault")
	for _, row := range rows {
		state := "not run"
		var v history.Verdict
		begun := time.Now()
		t.Run(row.name, func(t *testing.T) {
			x := newTrial(t, n, row.name)
			v = x.judge(row.run)
			for _, problem := range x.problems {
				t.Error(problem)
			}
			state = map[bool]string{false: "ok", true: "FAILED"}[t.Failed()]
		})
		_, _ = fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%s\t %s\n", v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost,
			time.Since(begun).Round(100*time.Millisecond), state, row.fault)
	}
	t.Run("loss-is-found", func(t *testing.T) { lossIsFound(t, n) })
	_ = w.Flush()
	t.Logf("\n%s", &b)
}

func startNode(t *testing.T) *node.Node {
	t.Helper()
	return started(t, func() ([]*node.Node, error) {
		n, err := node.Start(t.Context(), t.TempDir())
		return []*node.Node{n}, err
	})[0]
}

// started returns nodes that end with the test.
func started(t *testing.T, start func() ([]*node.Node, error)) []*node.Node {
	t.Helper()
	nodes, err := start()
	if errors.Is(err, node.ErrMissing) && os.Getenv("MOTIF_BROKER") == "skip" {
		t.Skip("Kafka is missing, and MOTIF_BROKER=skip")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			if err := n.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	return nodes
}

// under has publishers and consumers at work, each side with a driver of its own, while f has
// something go wrong, until all is handled.
func (x *trial) under(f func(s *stream)) {
	publisher, consumer := x.connect("publisher"), x.connect("consumer")
	x.consume(x.subscribe(consumer, 50), 2)
	s := x.stream(publisher, 4)
	x.flowing("messages flow", 200, s)
	f(s)
	x.flowing("messages flow again", 200, s)
	x.finish(s)
}

func restart(x *trial) {
	x.under(func(*stream) {
		x.h.Add(history.Event{Op: history.Crash}) // acknowledgements on their way to it are lost
		x.must(x.node.Stop(x.ctx), "stopping the broker")
		x.must(x.node.Restart(x.ctx), "starting it again")
	})
}

func killed(x *trial) {
	x.under(func(s *stream) {
		for range 2 {
			x.h.Add(history.Event{Op: history.Crash})
			x.must(x.node.Kill(), "killing the broker")
			x.must(x.node.Restart(x.ctx), "starting it again")
			x.flowing("messages flow again", 100, s)
		}
	})
}

// freeze has every call come back when its ctx ends, and all go on afterwards.
func freeze(x *trial) {
	x.under(func(*stream) {
		d := x.connect("other")
		x.h.Add(history.Event{Op: history.Crash})
		thaw, err := x.node.Freeze()
		x.must(err, "freezing the broker")
		frozen := time.Now()
		for what, f := range map[string]func(context.Context) error{
			"Publish":   func(ctx context.Context) error { return d.Publish(ctx, x.to(), text("frozen", 10)) },
			"Subscribe": func(ctx context.Context) error { _, err := d.Subscribe(ctx, x.from(1)); return err },
			"Declare":   func(ctx context.Context) error { return d.Declare(ctx, x.from(1)) },
		} {
			if err := x.within(time.Second, what, f); err == nil {
				x.errorf("%s: no error from a broker that is frozen", what)
			}
		}
		time.Sleep(time.Until(frozen.Add(2 * node.Lock))) // this is the fault
		x.must(thaw(), "thawing it")
	})
}

// killedWorker has three processes in a row die with messages in hand. A broker would drop what was
// delivered five times.
func killedWorker(x *trial) {
	d := x.connect("client")
	const all = 10
	x.must(d.Declare(x.brief(), x.from(1)), "declaring")
	for i := range all {
		x.must(d.Publish(x.brief(), x.to(), text(fmt.Sprint("job-", i), 10)), "publishing")
	}
	for range 3 {
		session := x.h.Number()
		worker, held := startChild(x, x.name)
		for range all {
			select {
			case id, ok := <-held:
				if !ok {
					x.must(errors.New("it has ended"), "waiting for the worker")
				}
				x.h.Add(history.Event{Op: history.Deliver, Client: "worker", ID: id, Queue: x.name, Delivery: x.h.Number(), Session: session, Unmarked: true})
			case <-time.After(patience):
				x.must(errors.New("it takes nothing"), "waiting for the worker")
			}
		}
		_ = worker.Process.Kill()
		_ = worker.Wait() // it was killed
		x.h.Add(history.Event{Op: history.SessionEnd, Client: "worker", Queue: x.name, Session: session, Err: adapters.ErrSessionLost})
	}
	x.consume(x.subscribe(d, 5), 1)
	x.awaitHandled()
}

// cut cuts the connections of all clients, which reach the broker over a network of their own.
func cut(x *trial) {
	var network *amqptest.Proxy
	x.node = started(x.t, func() ([]*node.Node, error) {
		n, err := node.StartBehind(x.ctx, x.t.TempDir(), func(addr string) (string, error) {
			var err error
			if network, err = amqptest.NewProxy("amqp://" + addr); err != nil {
				return "", err
			}
			return network.Addr(), nil
		})
		return []*node.Node{n}, err
	})[0]
	x.t.Cleanup(network.Close)
	x.under(func(s *stream) {
		for range 10 {
			x.h.Add(history.Event{Op: history.Crash}) // acknowledgements on their way are lost
			network.Cut()
			x.flowing("messages flow again", 50, s)
		}
	})
}

// delayed: what is delayed is lost neither with the broker nor with the process that has it in hand
// to move, and comes no earlier.
func delayed(x *trial) {
	client := x.connect("client")
	x.must(client.Declare(x.brief(), x.from(1)), "declaring")
	worker, delays := startChild(x, mover)
	const all = 60
	due := map[string]time.Time{}
	for i := range all {
		p, id := x.to(), fmt.Sprint("job-", i)
		p.Delay = 300*time.Millisecond + time.Duration(i)*100*time.Millisecond
		due[id] = time.Now().Add(p.Delay)
		x.must(client.Publish(x.brief(), p, text(id, 10)), "publishing")
		if i == 0 {
			<-delays // it moves, too
		}
	}
	sub := x.subscribe(client, 5)
	x.wg.Go(func() {
		for {
			got, err := sub.Receive(x.ctx)
			if err != nil {
				return
			}
			if early := time.Until(due[got.Message.UUID]); early > 0 && due[got.Message.UUID] != (time.Time{}) {
				x.errorf("%s came %v early", got.Message.UUID, early)
			}
			_ = got.Settle(x.ctx, adapters.Ack)
		}
	})
	x.await("some were moved", func() bool { return x.h.Open() <= all-10 })
	x.h.Add(history.Event{Op: history.Crash})
	x.must(x.node.Kill(), "killing the broker")
	x.must(x.node.Restart(x.ctx), "starting it again")
	x.await("more were moved", func() bool { return x.h.Open() <= all-20 })
	x.h.Add(history.Event{Op: history.Crash})
	_ = worker.Process.Kill()
	_ = worker.Wait() // it was killed
	x.awaitHandled()
}

// leaderKilled has the queue go on at another broker of a cluster.
func leaderKilled(x *trial) {
	ring := startRing(x.t)
	x.node, x.others = ring[0], ring[1:]
	x.under(func(s *stream) {
		leader := x.leader(ring)
		x.h.Add(history.Event{Op: history.Crash})
		x.must(leader.Kill(), "killing the leader")
		x.flowing("messages flow by another leader", 200, s)
		x.must(leader.Restart(x.ctx), "starting it again")
		x.flowing("messages flow with it", 100, s)
	})
}

func startRing(t *testing.T) []*node.Node {
	t.Helper()
	return started(t, func() ([]*node.Node, error) { return node.StartCluster(t.Context(), t.TempDir(), 3) })
}

// leader returns the node that leads the trial's queue.
func (x *trial) leader(ring []*node.Node) *node.Node {
	plain := sasl.Auth{User: node.User, Pass: node.Password}
	client, err := kgo.NewClient(kgo.SeedBrokers(ring[0].Addr(), ring[1].Addr(), ring[2].Addr()), kgo.SASL(plain.AsMechanism()))
	x.must(err, "connecting")
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(x.brief(), "motif-q-"+x.name)
	x.must(err, "looking for the leader")
	for _, p := range topics["motif-q-"+x.name].Partitions {
		if p.Leader > 0 {
			return ring[p.Leader-1]
		}
	}
	x.must(fmt.Errorf("there is none: %v", topics), "looking for the leader")
	return nil
}

// TestSoak has something go wrong every five seconds, for as long as MOTIF_SOAK says: a
// broker of three is killed, stopped or frozen, while messages come at once and delayed.
func TestSoak(t *testing.T) {
	t.Parallel()
	text := os.Getenv("MOTIF_SOAK")
	if text == "" {
		t.Skip("three nodes more beside those of the rows: make soak runs it")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	ring := startRing(t)
	x := newTrial(t, ring[0], "soak")
	x.others = ring[1:]
	faults := map[string]int{}
	v := x.judge(func(x *trial) {
		var streams []*stream
		for i := range 2 {
			d := x.connect(fmt.Sprint("client-", i))
			x.consume(x.subscribe(d, 20), 2)
			x.pause, x.prefix, x.delay = 20*time.Millisecond, fmt.Sprint("client-", i), 0
			streams = append(streams, x.stream(d, 2))
			x.prefix, x.delay = fmt.Sprint("late-", i), 700*time.Millisecond
			streams = append(streams, x.stream(d, 1))
		}
		x.flowing("messages flow", 20, streams...)
		for end := time.Now().Add(length); time.Now().Before(end); {
			next := time.Now().Add(5 * time.Second)
			n := ring[rand.IntN(len(ring))]
			what := []string{"kill", "stop", "freeze"}[rand.IntN(3)]
			faults[what]++
			x.h.Add(history.Event{Op: history.Crash})
			switch what {
			case "freeze":
				thaw, err := n.Freeze()
				x.must(err, "freezing a broker")
				time.Sleep(2 * time.Second) // this is the fault
				x.must(thaw(), "thawing it")
			case "kill":
				x.must(n.Kill(), "killing a broker")
				x.must(n.Restart(x.ctx), "starting it again")
			default:
				x.must(n.Stop(x.ctx), "stopping a broker")
				x.must(n.Restart(x.ctx), "starting it again")
			}
			x.h.Add(history.Event{Op: history.Crash}) // what it was told last, and only now forgets
			x.flowing("messages flow again", 20, streams...)
			time.Sleep(time.Until(next))
		}
		x.finish(streams...)
	})
	for _, problem := range x.problems {
		t.Error(problem)
	}
	t.Logf("%v of %v: %v", faults, length, v)
}

// A worker is this test program, told by these variables where to take messages. It never finishes
// with them.
const urlVar, queueVar = "MOTIF_FAULTS_URL", "MOTIF_FAULTS_QUEUE"

// mover is what a worker is told to take from that is to move what is delayed, and takes nothing.
const mover = ""

func TestMain(m *testing.M) {
	if url := os.Getenv(urlVar); url != "" {
		if keys := os.Getenv(keysVar); keys != "" {
			fmt.Fprintln(os.Stderr, workByKey(url, keys))
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, hold(url, os.Getenv(queueVar)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func hold(url, queue string) error {
	ctx := context.Background()
	d, err := adapters.Open(ctx, url)
	if err != nil {
		return err
	}
	if queue == mover {
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "nobody"}}
		for n := 300 * time.Millisecond; n < 20*time.Second; n *= 4 { // so that it moves from all topics
			if p.Delay = n; err == nil {
				err = d.Publish(ctx, p, message.NewMessage("id", nil))
			}
		}
		if err == nil {
			fmt.Println("it moves")
			select {} // until it is killed
		}
		return err
	}
	sub, err := d.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Prefetch: 100, Queue: spec})
	if err != nil {
		return err
	}
	for {
		got, err := sub.Receive(ctx)
		if err != nil {
			return err
		}
		fmt.Println(got.Message.UUID)
	}
}

// startChild starts a worker, and returns what it says that it holds.
func startChild(x *trial, queue string) (*exec.Cmd, <-chan string) {
	program, err := os.Executable()
	x.must(err, "finding this program")
	worker := exec.CommandContext(x.ctx, program)
	worker.Env = append(os.Environ(), urlVar+"="+x.node.URL(), queueVar+"="+queue)
	worker.Stderr = os.Stderr
	out, err := worker.StdoutPipe()
	if err == nil {
		err = worker.Start()
	}
	x.must(err, "starting a worker")
	held := make(chan string, 100)
	go func() {
		defer close(held)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			held <- lines.Text()
		}
	}()
	return worker, held
}

// forgetful confirms what it did not send, once.
type forgetful struct {
	adapters.Driver
	sent int
}

func (d *forgetful) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if d.sent++; d.sent == 5 {
		return nil
	}
	return d.Driver.Publish(ctx, p, msgs...)
}

// lossIsFound: a row is worth what it finds.
func lossIsFound(t *testing.T, n *node.Node) {
	x := newTrial(t, n, "loss")
	x.wrap = func(d adapters.Driver) adapters.Driver { return &forgetful{Driver: d} }
	v := x.judge(func(x *trial) {
		d := x.connect("client")
		x.must(d.Declare(x.brief(), x.from(1)), "declaring")
		for i := range 10 {
			x.must(d.Publish(x.brief(), x.to(), text(fmt.Sprint("job-", i), 10)), "publishing")
		}
		x.consume(x.subscribe(d, 5), 1)
		x.await("the others are handled", func() bool { return x.h.Open() <= 1 })
	})
	if v.Lost != 1 || len(x.problems) == 0 {
		t.Errorf("of a driver that drops a message: %v, %q", v, x.problems)
	}
}
