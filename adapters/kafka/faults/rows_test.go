package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/conformance/history"
)

// rows are all there are. What is not here is not checked. They share a broker, one after another.
var rows = []struct {
	name, fault string
	run         func(*trial)
}{
	{"restart", "broker stopped in order and started again under load", restart},
	{"kill-9", "broker killed -9 under load", killed},
	{"freeze", "broker frozen for longer than its clients wait", freeze},
	{"killed-worker", "process killed -9 while handling, three times: others handle it", killedWorker},
}

func TestFaults(t *testing.T) {
	n := startNode(t)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "attempted\tconfirmed\tunknown\tdelivered\tduplicated\tunexpected\tlost\ttook\t\t fault")
	for _, row := range rows {
		state := "not run"
		var v history.Verdict
		begun := time.Now()
		t.Run(row.name, func(t *testing.T) {
			x := newTrial(n, row.name)
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
	n, err := node.Start(t.Context(), t.TempDir())
	if errors.Is(err, node.ErrMissing) && os.Getenv("MOTIF_BROKER") == "skip" {
		t.Skip("Kafka is missing, and MOTIF_BROKER=skip")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Kill(); err != nil {
			t.Error(err)
		}
	})
	return n
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
		worker, held := startWorker(x)
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

// A worker is this test program, told by these variables where to take messages. It never finishes
// with them.
const urlVar, queueVar = "MOTIF_FAULTS_URL", "MOTIF_FAULTS_QUEUE"

func TestMain(m *testing.M) {
	if url := os.Getenv(urlVar); url != "" {
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
	sub, err := d.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Prefetch: 100})
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

// startWorker starts a worker, and returns what it says that it holds.
func startWorker(x *trial) (*exec.Cmd, <-chan string) {
	program, err := os.Executable()
	x.must(err, "finding this program")
	worker := exec.CommandContext(x.ctx, program)
	worker.Env = append(os.Environ(), urlVar+"="+x.node.URL(), queueVar+"="+x.name)
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
	x := newTrial(n, "loss")
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
