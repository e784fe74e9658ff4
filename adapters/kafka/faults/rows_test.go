package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	sasl "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	_ "github.com/motifmq/motif/adapters/kafka" // makes its URLs known
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/conformance/trial"
)

// rows are all there are. What is not here is not checked. They share a broker, one after another,
// but for the last, which has three.
var rows = []struct {
	name, fault string
	run         func(*site)
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
	var all []trial.Row
	for _, row := range rows {
		all = append(all, trial.Row{Name: row.name, Fault: row.fault, Do: func(x *trial.Trial) {
			row.run(&site{Trial: x, t: t, node: n, name: row.name})
		}})
	}
	t.Run("loss-is-found", func(t *testing.T) { lossIsFound(t, n) })
	trial.Run(t, all, 1)
}

// spec is that of the queues of trials. With MOTIF_FAULTS_ORDERED=1 they have a single active
// consumer, and no share group.
var spec = adapters.QueueSpec{SingleActive: os.Getenv("MOTIF_FAULTS_ORDERED") != ""}

// site is a trial with a broker, and a queue of its name.
type site struct {
	*trial.Trial
	t      *testing.T
	node   *node.Node
	others []*node.Node // of its cluster
	name   string
}

// url is where drivers connect to.
func (x *site) url() string {
	at := x.node.URL()
	if len(x.others) > 0 {
		more := url.Values{}
		for _, n := range x.others {
			more.Add("broker", n.Addr())
		}
		at += "?" + more.Encode()
	}
	return at
}

func (x *site) to() adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: x.name}}
}

func (x *site) from(prefetch int) adapters.Source {
	return adapters.Source{Endpoint: x.to().To, Prefetch: prefetch, Queue: spec}
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
func (x *site) under(f func(s *trial.Stream)) {
	publisher, consumer := x.Open("publisher", x.url()), x.Open("consumer", x.url())
	x.Consume(x.Subscribe(consumer, x.from(50)), 2)
	s := x.Stream(publisher, x.to(), "job", 4, 256, 0)
	x.Flowing("messages flow", 200, s)
	f(s)
	x.Flowing("messages flow again", 200, s)
	x.Finish(s)
}

func restart(x *site) {
	x.under(func(*trial.Stream) {
		x.Log.Add(history.Event{Op: history.Crash}) // acknowledgements on their way to it are lost
		x.Must(x.node.Stop(x.Context()), "stopping the broker")
		x.Must(x.node.Restart(x.Context()), "starting it again")
	})
}

func killed(x *site) {
	x.under(func(s *trial.Stream) {
		for range 2 {
			x.Log.Add(history.Event{Op: history.Crash})
			x.Must(x.node.Kill(), "killing the broker")
			x.Must(x.node.Restart(x.Context()), "starting it again")
			x.Flowing("messages flow again", 100, s)
		}
	})
}

// freeze has every call come back when its ctx ends, and all go on afterwards.
func freeze(x *site) {
	x.under(func(*trial.Stream) {
		d := x.Open("other", x.url())
		x.Log.Add(history.Event{Op: history.Crash})
		thaw, err := x.node.Freeze()
		x.Must(err, "freezing the broker")
		frozen := time.Now()
		for what, f := range map[string]func(context.Context) error{
			"Publish":   func(ctx context.Context) error { return d.Publish(ctx, x.to(), trial.Message("frozen", 10)) },
			"Subscribe": func(ctx context.Context) error { _, err := d.Subscribe(ctx, x.from(1)); return err },
			"Declare":   func(ctx context.Context) error { return d.Declare(ctx, x.from(1)) },
		} {
			if err := x.Within(time.Second, what, f); err == nil {
				x.Errorf("%s: no error from a broker that is frozen", what)
			}
		}
		time.Sleep(time.Until(frozen.Add(2 * node.Lock))) // this is the fault
		x.Must(thaw(), "thawing it")
	})
}

// killedWorker has three processes in a row die with messages in hand. A broker would drop what was
// delivered five times.
func killedWorker(x *site) {
	d := x.Open("client", x.url())
	const all = 10
	x.Must(d.Declare(x.Soon(), x.from(1)), "declaring")
	for i := range all {
		x.Must(d.Publish(x.Soon(), x.to(), trial.Message(fmt.Sprint("job-", i), 10)), "publishing")
	}
	for range 3 {
		session := x.Log.Number()
		worker, held := startChild(x, x.name)
		for range all {
			select {
			case id, ok := <-held:
				if !ok {
					x.Must(errors.New("it has ended"), "waiting for the worker")
				}
				x.Log.Add(history.Event{Op: history.Deliver, Client: "worker", ID: id, Queue: x.name, Delivery: x.Log.Number(), Session: session, Unmarked: true})
			case <-time.After(trial.Patience):
				x.Must(errors.New("it takes nothing"), "waiting for the worker")
			}
		}
		_ = worker.Process.Kill()
		_ = worker.Wait() // it was killed
		x.Log.Add(history.Event{Op: history.SessionEnd, Client: "worker", Queue: x.name, Session: session, Err: adapters.ErrSessionLost})
	}
	x.Consume(x.Subscribe(d, x.from(5)), 1)
	x.AwaitHandled()
}

// cut cuts the connections of all clients, which reach the broker over a network of their own.
func cut(x *site) {
	var network *amqptest.Proxy
	x.node = started(x.t, func() ([]*node.Node, error) {
		n, err := node.StartBehind(x.Context(), x.t.TempDir(), func(addr string) (string, error) {
			var err error
			if network, err = amqptest.NewProxy("amqp://" + addr); err != nil {
				return "", err
			}
			return network.Addr(), nil
		})
		return []*node.Node{n}, err
	})[0]
	x.t.Cleanup(network.Close)
	x.under(func(s *trial.Stream) {
		for range 10 {
			x.Log.Add(history.Event{Op: history.Crash}) // acknowledgements on their way are lost
			network.Cut()
			x.Flowing("messages flow again", 50, s)
		}
	})
}

// delayed: what is delayed is lost neither with the broker nor with the process that has it in hand
// to move, and comes no earlier.
func delayed(x *site) {
	client := x.Open("client", x.url())
	x.Must(client.Declare(x.Soon(), x.from(1)), "declaring")
	worker, delays := startChild(x, mover)
	const all = 60
	due := map[string]time.Time{}
	for i := range all {
		p, id := x.to(), fmt.Sprint("job-", i)
		p.Delay = 300*time.Millisecond + time.Duration(i)*100*time.Millisecond
		due[id] = time.Now().Add(p.Delay)
		x.Must(client.Publish(x.Soon(), p, trial.Message(id, 10)), "publishing")
		if i == 0 {
			<-delays // it moves, too
		}
	}
	sub := x.Subscribe(client, x.from(5))
	x.Go(func() {
		for {
			got, err := sub.Receive(x.Context())
			if err != nil {
				return
			}
			if early := time.Until(due[got.Message.UUID]); early > 0 && due[got.Message.UUID] != (time.Time{}) {
				x.Errorf("%s came %v early", got.Message.UUID, early)
			}
			_ = got.Settle(x.Context(), adapters.Ack)
		}
	})
	x.Await("some were moved", func() bool { return x.Log.Open() <= all-10 })
	x.Log.Add(history.Event{Op: history.Crash})
	x.Must(x.node.Kill(), "killing the broker")
	x.Must(x.node.Restart(x.Context()), "starting it again")
	x.Await("more were moved", func() bool { return x.Log.Open() <= all-20 })
	x.Log.Add(history.Event{Op: history.Crash})
	_ = worker.Process.Kill()
	_ = worker.Wait() // it was killed
	x.AwaitHandled()
}

// leaderKilled has the queue go on at another broker of a cluster.
func leaderKilled(x *site) {
	ring := startRing(x.t)
	x.node, x.others = ring[0], ring[1:]
	x.under(func(s *trial.Stream) {
		leader := x.leader(ring)
		x.Log.Add(history.Event{Op: history.Crash})
		x.Must(leader.Kill(), "killing the leader")
		x.Flowing("messages flow by another leader", 200, s)
		x.Must(leader.Restart(x.Context()), "starting it again")
		x.Flowing("messages flow with it", 100, s)
	})
}

func startRing(t *testing.T) []*node.Node {
	t.Helper()
	return started(t, func() ([]*node.Node, error) { return node.StartCluster(t.Context(), t.TempDir(), 3) })
}

// leader returns the node that leads the trial's queue.
func (x *site) leader(ring []*node.Node) *node.Node {
	plain := sasl.Auth{User: node.User, Pass: node.Password}
	client, err := kgo.NewClient(kgo.SeedBrokers(ring[0].Addr(), ring[1].Addr(), ring[2].Addr()), kgo.SASL(plain.AsMechanism()))
	x.Must(err, "connecting")
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(x.Soon(), "motif-q-"+x.name)
	x.Must(err, "looking for the leader")
	for _, p := range topics["motif-q-"+x.name].Partitions {
		if p.Leader > 0 {
			return ring[p.Leader-1]
		}
	}
	x.Must(fmt.Errorf("there is none: %v", topics), "looking for the leader")
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
	faults := map[string]int{}
	v, problems := trial.New().Do(func(tried *trial.Trial) {
		x := &site{Trial: tried, t: t, node: ring[0], others: ring[1:], name: "soak"}
		var streams []*trial.Stream
		for i := range 2 {
			d := x.Open(fmt.Sprint("client-", i), x.url())
			x.Consume(x.Subscribe(d, x.from(20)), 2)
			late := x.to()
			late.Delay = 700 * time.Millisecond
			streams = append(streams,
				x.Stream(d, x.to(), fmt.Sprint("client-", i), 2, 256, 20*time.Millisecond),
				x.Stream(d, late, fmt.Sprint("late-", i), 1, 256, 20*time.Millisecond))
		}
		x.Flowing("messages flow", 20, streams...)
		for end := time.Now().Add(length); time.Now().Before(end); {
			next := time.Now().Add(5 * time.Second)
			n := ring[rand.IntN(len(ring))]
			what := []string{"kill", "stop", "freeze"}[rand.IntN(3)]
			faults[what]++
			x.Log.Add(history.Event{Op: history.Crash})
			switch what {
			case "freeze":
				thaw, err := n.Freeze()
				x.Must(err, "freezing a broker")
				time.Sleep(2 * time.Second) // this is the fault
				x.Must(thaw(), "thawing it")
			case "kill":
				x.Must(n.Kill(), "killing a broker")
				x.Must(n.Restart(x.Context()), "starting it again")
			default:
				x.Must(n.Stop(x.Context()), "stopping a broker")
				x.Must(n.Restart(x.Context()), "starting it again")
			}
			x.Log.Add(history.Event{Op: history.Crash}) // what it was told last, and only now forgets
			x.Flowing("messages flow again", 20, streams...)
			time.Sleep(time.Until(next))
		}
		x.Finish(streams...)
	})
	for _, problem := range problems {
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
func startChild(x *site, queue string) (*exec.Cmd, <-chan string) {
	program, err := os.Executable()
	x.Must(err, "finding this program")
	worker := exec.CommandContext(x.Context(), program)
	worker.Env = append(os.Environ(), urlVar+"="+x.node.URL(), queueVar+"="+queue)
	worker.Stderr = os.Stderr
	out, err := worker.StdoutPipe()
	if err == nil {
		err = worker.Start()
	}
	x.Must(err, "starting a worker")
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
	tried := trial.New()
	tried.Wrap = func(d adapters.Driver) adapters.Driver { return &forgetful{Driver: d} }
	v, problems := tried.Do(func(tried *trial.Trial) {
		x := &site{Trial: tried, t: t, node: n, name: "loss"}
		d := x.Open("client", x.url())
		x.Must(d.Declare(x.Soon(), x.from(1)), "declaring")
		for i := range 10 {
			x.Must(d.Publish(x.Soon(), x.to(), trial.Message(fmt.Sprint("job-", i), 10)), "publishing")
		}
		x.Consume(x.Subscribe(d, x.from(5)), 1)
		x.Await("the others are handled", func() bool { return x.Log.Open() <= 1 })
	})
	if v.Lost != 1 || len(problems) == 0 {
		t.Errorf("of a driver that drops a message: %v, %q", v, problems)
	}
}
