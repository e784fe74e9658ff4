package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/conformance/trial"
)

// rows are all there are. What is not here is not checked.
var rows = []trial.Row{
	{Name: "restart", Fault: "server stopped in order and started again under load", Do: restart},
	{Name: "kill-9", Fault: "server killed -9 under load", Do: killed},
	{Name: "freeze", Fault: "server frozen for 20 s: calls come back, all goes on after", Do: freeze},
	{Name: "cut", Fault: "connections cut again and again under load", Do: cut},
	{Name: "half-open", Fault: "all that is sent lost, in both directions: found by pings", Do: halfOpen},
	{Name: "full-store", Fault: "the store is full: refused, and goes on with room", Do: fullStore},
	{Name: "killed-worker", Fault: "process killed -9 while handling: others handle it", Do: killedWorker},
	{Name: "rolling-restart", Fault: "three servers restarted one after the other under load", Do: rollingRestart},
	{Name: "leader-killed", Fault: "server with the queue's leader killed -9, one of three", Do: leaderKilled},
	{Name: "majority-lost", Fault: "two servers of three killed -9, and back", Do: majorityLost},
}

func TestFaults(t *testing.T) {
	t.Parallel()
	trial.Run(t, rows, 6) // most wait most of the time
}

// under has a publisher and a consumer at work, each with a connection of its own, while f has
// something go wrong, until all is handled.
func under(x *trial.Trial, n *node, f func(s *trial.Stream)) {
	x.Left = urlAt(1, n.addr())
	publisher, consumer := x.Open("publisher", x.Left), x.Open("consumer", x.Left)
	x.Consume(x.Subscribe(consumer, trial.From("jobs", 50)), 2)
	s := x.Stream(publisher, trial.To("jobs"), "job", 8, 256, 0)
	x.Flowing("messages flow", 500, s)
	f(s)
	x.Flowing("messages flow again", 500, s)
	x.Finish(s)
}

func restart(x *trial.Trial) {
	n := startNode(x, 0)
	under(x, n, func(*trial.Stream) {
		n.stop()
		n.start()
	})
}

func killed(x *trial.Trial) {
	n := startNode(x, 0)
	under(x, n, func(s *trial.Stream) {
		for range 3 {
			x.Log.Add(history.Event{Op: history.Crash}) // it forgets what it delivered just now
			n.kill()
			n.start()
			x.Flowing("messages flow again", 200, s)
		}
	})
}

// freeze has every call come back when its ctx ends, and the driver find out.
func freeze(x *trial.Trial) {
	n := startNode(x, 0)
	under(x, n, func(*trial.Stream) {
		d := x.Open("other", x.Left)
		sub := x.Subscribe(d, trial.From("own", 10))
		must := func(err error) { x.Must(err, "before the freeze") }
		must(d.Publish(x.Soon(), trial.To("own"), trial.Message("own-1", 10), trial.Message("own-2", 10)))
		held, err := sub.Receive(x.Soon())
		must(err)
		n.freeze()
		frozen := time.Now()
		for what, f := range map[string]func(context.Context) error{
			"Publish": func(ctx context.Context) error {
				return d.Publish(ctx, trial.To("own"), trial.Message("frozen", 1<<19))
			},
			"Subscribe": func(ctx context.Context) error { _, err := d.Subscribe(ctx, trial.From("more", 1)); return err },
			"Declare":   func(ctx context.Context) error { return d.Declare(ctx, trial.From("more", 1)) },
			"Get":       func(ctx context.Context) error { _, err := d.Get(ctx, trial.From("own", 1)); return err },
		} {
			if err := x.Within(time.Second, what, f); err == nil {
				x.Errorf("%s: no error from a server that is frozen", what)
			}
		}
		_ = held.Settle(x.Brief(), adapters.Requeue)
		_ = x.Within(15*time.Second, "Stop of a subscription", func(context.Context) error { return sub.Stop() })
		x.Await("the driver finds out", func() bool { return !trial.IsUp(d) })
		time.Sleep(time.Until(frozen.Add(20 * time.Second))) // this is the fault
		n.thaw()
		x.Consume(x.Subscribe(d, trial.From("own", 10)), 1)
	})
}

func cut(x *trial.Trial) {
	n := startNode(x, 0)
	network := networkBefore(x, n)
	x.Left = urlAt(1, n.addr())
	far := urlAt(1, network.Addr())
	publisher, consumer := x.Open("publisher", far), x.Open("consumer", far)
	x.Consume(x.Subscribe(consumer, trial.From("jobs", 50)), 2)
	s := x.Stream(publisher, trial.To("jobs"), "job", 8, 256, 0)
	for range 20 {
		x.Flowing("messages flow", 100, s)
		network.Cut()
	}
	x.Flowing("messages flow again", 100, s)
	x.Finish(s)
}

func halfOpen(x *trial.Trial) {
	n := startNode(x, 0)
	network := networkBefore(x, n)
	x.Left = urlAt(1, n.addr())
	far := urlAt(1, network.Addr())
	publisher, consumer := x.Open("publisher", far), x.Open("consumer", far)
	x.Consume(x.Subscribe(consumer, trial.From("jobs", 50)), 2)
	s := x.Stream(publisher, trial.To("jobs"), "job", 8, 256, 0)
	x.Flowing("messages flow", 200, s)
	network.Blackhole(0, 1)
	x.Await("both find out", func() bool { return !trial.IsUp(publisher) && !trial.IsUp(consumer) })
	network.Heal()
	x.Flowing("messages flow again", 200, s)
	x.Finish(s)
}

// fullStore: what does not fit is refused, and was not stored.
func fullStore(x *trial.Trial) {
	n := startNode(x, 4<<20)
	x.Left = urlAt(1, n.addr())
	d := x.Open("client", x.Left)
	x.Must(d.Declare(x.Soon(), trial.From("jobs", 50)), "declaring")
	s := x.Stream(d, trial.To("jobs"), "job", 4, 64<<10, 0)
	x.Await("messages are refused", func() bool { return s.Nacked() > 20 })
	if !trial.IsUp(d) {
		x.Errorf("the connection is lost, for a message was refused")
	}
	before := s.Confirmed()
	x.Consume(x.Subscribe(x.Open("consumer", x.Left), trial.From("jobs", 50)), 2)
	x.Await("messages flow again", func() bool { return s.Confirmed() >= before+200 })
	x.Finish(s)
}

// workerTask is what a worker does: it takes messages, and never finishes with them.
type workerTask struct{ URL, Queue string }

func hold(task workerTask) error {
	ctx := context.Background()
	d, err := adapters.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	sub, err := d.Subscribe(ctx, trial.From(task.Queue, 10))
	if err != nil {
		return err
	}
	go func() {
		for {
			got, err := sub.Receive(ctx)
			if err != nil {
				return
			}
			fmt.Println(got.Message.UUID)
		}
	}()
	return nil
}

func killedWorker(x *trial.Trial) {
	n := startNode(x, 0)
	x.Left = urlAt(1, n.addr())
	held := make(chan string, 100)
	worker, err := startChild("worker", workerTask{x.Left, "jobs"}, func(id string) { held <- id })
	x.Must(err, "starting a worker")
	session := x.Log.Number()
	d := x.Open("client", x.Left)
	for i := range 20 {
		x.Must(d.Publish(x.Soon(), trial.To("jobs"), trial.Message(fmt.Sprint("job-", i), 10)), "publishing")
	}
	for range 10 {
		select {
		case id := <-held:
			x.Log.Add(history.Event{Op: history.Deliver, Client: "worker", ID: id, Queue: "jobs", Delivery: x.Log.Number(), Session: session})
		case <-time.After(trial.Patience):
			x.Must(errors.New("it takes nothing"), "waiting for the worker")
		}
	}
	_ = worker.Process.Kill()
	_ = worker.Wait() // it was killed
	x.Log.Add(history.Event{Op: history.SessionEnd, Client: "worker", Queue: "jobs", Session: session, Err: adapters.ErrSessionLost})
	x.Consume(x.Subscribe(d, trial.From("jobs", 5)), 1)
	x.AwaitHandled()
}

// inRing has a publisher and a consumer at work at each server.
func inRing(x *trial.Trial) (ring, []*trial.Stream) {
	r := startRing(x)
	x.Left = r.url(0, 1, 2)
	var streams []*trial.Stream
	for i := range r {
		client := x.Open(fmt.Sprint("client-", i), r.url(i, (i+1)%3, (i+2)%3))
		x.Consume(x.Subscribe(client, trial.From("jobs", 20)), 2)
		streams = append(streams, x.Stream(client, trial.To("jobs"), fmt.Sprint("job-", i), 2, 256, 0))
	}
	x.Flowing("messages flow", 100, streams...)
	return r, streams
}

func rollingRestart(x *trial.Trial) {
	r, streams := inRing(x)
	for i, n := range r {
		x.Log.Add(history.Event{Op: history.Crash}) // in order or not: acknowledgements on their way to it are lost
		if i == 1 {
			n.kill()
		} else {
			n.stop()
		}
		x.Flowing("messages flow without a server", 100, streams...)
		n.start()
		x.Flowing("messages flow with it", 100, streams...)
	}
	x.Finish(streams...)
}

func leaderKilled(x *trial.Trial) {
	r, streams := inRing(x)
	leader := r[r.leader(x, "jobs")]
	x.Log.Add(history.Event{Op: history.Crash})
	leader.kill()
	x.Flowing("messages flow by another leader", 200, streams...)
	leader.start()
	x.Flowing("messages flow with it", 100, streams...)
	x.Finish(streams...)
}

// majorityLost: what is left can store nothing. No call waits for longer than its ctx.
func majorityLost(x *trial.Trial) {
	r, streams := inRing(x)
	d := x.Open("other", r.url(0, 1, 2))
	x.Log.Add(history.Event{Op: history.Crash})
	r[1].kill()
	r[2].kill()
	for what, f := range map[string]func(context.Context) error{
		"Publish": func(ctx context.Context) error {
			return d.Publish(ctx, trial.To("jobs"), trial.Message("alone-"+fmt.Sprint(x.Log.Number()), 10))
		},
		"Declare": func(ctx context.Context) error { return d.Declare(ctx, trial.From("more", 1)) },
	} {
		err := x.Within(2*time.Second, what, f)
		if !errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, context.DeadlineExceeded) {
			x.Errorf("%s, with two of three servers gone: %v", what, err)
		}
	}
	r[1].start()
	r[2].start()
	x.Flowing("messages flow again", 200, streams...)
	x.Finish(streams...)
}

// TestSoak has something go wrong every five seconds, for as long as MOTIF_SOAK says (15 s): a
// server of three is killed, stopped or frozen, or all connections are cut.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 15 * time.Second
	if text := os.Getenv("MOTIF_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	faults := map[string]int{}
	v, problems := trial.New().Do(func(x *trial.Trial) {
		r := startRing(x)
		x.Left = r.url(0, 1, 2)
		network := networkBefore(x, r[0])
		var streams []*trial.Stream
		for i := range 3 {
			addrs := []string{network.Addr(), r[1].addr(), r[2].addr()}
			d := x.Open(fmt.Sprint("client-", i), urlAt(3, append(addrs[i:], addrs[:i]...)...))
			x.Consume(x.Subscribe(d, trial.From("jobs", 20)), 2)
			streams = append(streams, x.Stream(d, trial.To("jobs"), fmt.Sprint("job-", i), 2, 256, 20*time.Millisecond))
		}
		x.Flowing("messages flow", 20, streams...)
		for end := time.Now().Add(length); time.Now().Before(end); {
			next := time.Now().Add(5 * time.Second)
			n := r[rand.IntN(len(r))]
			switch what := []string{"kill", "stop", "freeze", "cut"}[rand.IntN(4)]; what {
			case "cut":
				faults[what]++
				network.Cut()
			case "freeze":
				faults[what]++
				n.freeze()
				time.Sleep(2 * time.Second) // this is the fault
				n.thaw()
			default:
				faults[what]++
				x.Log.Add(history.Event{Op: history.Crash})
				n.end(map[string]os.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGTERM}[what])
				n.start()
			}
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

// forgetful confirms what it did not send, now and then.
type forgetful struct {
	adapters.Driver
	sent int
}

func (d *forgetful) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if d.sent++; d.sent == 50 {
		return nil
	}
	return d.Driver.Publish(ctx, p, msgs...)
}

// TestLossIsFound: a row is worth what it finds.
func TestLossIsFound(t *testing.T) {
	t.Parallel()
	x := trial.New()
	x.Wrap = func(d adapters.Driver) adapters.Driver { return &forgetful{Driver: d} }
	v, problems := x.Do(func(x *trial.Trial) {
		n := startNode(x, 0)
		x.Left = urlAt(1, n.addr())
		d := x.Open("client", x.Left)
		x.Must(d.Declare(x.Soon(), trial.From("jobs", 1)), "declaring")
		for i := range 60 {
			x.Must(d.Publish(x.Soon(), trial.To("jobs"), trial.Message(fmt.Sprint("job-", i), 10)), "publishing")
		}
	})
	if v.Lost != 1 || len(problems) == 0 {
		t.Errorf("of a driver that drops a message: %v, %q", v, problems)
	}
}
