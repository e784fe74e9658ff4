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
)

// rows are all there are. What is not here is not checked.
var rows = []struct {
	name, fault string
	run         func(*trial)
}{
	{"restart", "server stopped in order and started again under load", restart},
	{"kill-9", "server killed -9 under load", killed},
	{"freeze", "server frozen for 20 s: calls come back, all goes on after", freeze},
	{"cut", "connections cut again and again under load", cut},
	{"half-open", "all that is sent lost, in both directions: found by pings", halfOpen},
	{"full-store", "the store is full: refused, and goes on with room", fullStore},
	{"killed-worker", "process killed -9 while handling: others handle it", killedWorker},
	{"rolling-restart", "three servers restarted one after the other under load", rollingRestart},
	{"leader-killed", "server with the queue's leader killed -9, one of three", leaderKilled},
	{"majority-lost", "two servers of three killed -9, and back", majorityLost},
}

// turns says how many rows run at a time: most wait most of the time.
var turns = make(chan struct{}, 6)

func TestFaults(t *testing.T) {
	t.Parallel()
	results := &table{results: map[string]result{}}
	t.Cleanup(func() { t.Logf("\n%s", results) })
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			x, begin := newTrial(t), time.Now()
			v := x.run(row.run)
			for _, problem := range x.problems {
				t.Error(problem)
			}
			results.mu.Lock()
			defer results.mu.Unlock()
			results.results[row.name] = result{v, t.Failed(), time.Since(begin)}
		})
	}
}

// under has a publisher and a consumer at work, each with a connection of its own, while f has
// something go wrong, until all is handled.
func (x *trial) under(n *node, f func(s *stream)) {
	x.url = urlAt(1, n.addr())
	publisher, consumer := x.connect("publisher", x.url), x.connect("consumer", x.url)
	x.consume(x.subscribe(consumer, from("jobs", 50)), 2)
	s := x.stream(publisher, toQueue("jobs"), "job", 8, 256, 0)
	x.flowing("messages flow", 500, s)
	f(s)
	x.flowing("messages flow again", 500, s)
	x.finish(s)
}

func restart(x *trial) {
	n := x.node(0)
	x.under(n, func(*stream) {
		n.stop()
		n.start()
	})
}

func killed(x *trial) {
	n := x.node(0)
	x.under(n, func(s *stream) {
		for range 3 {
			x.h.Add(history.Event{Op: history.Crash}) // it forgets what it delivered just now
			n.kill()
			n.start()
			x.flowing("messages flow again", 200, s)
		}
	})
}

// freeze has every call come back when its ctx ends, and the driver find out.
func freeze(x *trial) {
	n := x.node(0)
	x.under(n, func(*stream) {
		d := x.connect("other", x.url)
		sub := x.subscribe(d, from("own", 10))
		must := func(err error) { x.must(err, "before the freeze") }
		must(d.Publish(x.soon(), toQueue("own"), text("own-1", 10), text("own-2", 10)))
		held, err := sub.Receive(x.soon())
		must(err)
		n.freeze()
		frozen := time.Now()
		for what, f := range map[string]func(context.Context) error{
			"Publish":   func(ctx context.Context) error { return d.Publish(ctx, toQueue("own"), text("frozen", 1<<19)) },
			"Subscribe": func(ctx context.Context) error { _, err := d.Subscribe(ctx, from("more", 1)); return err },
			"Declare":   func(ctx context.Context) error { return d.Declare(ctx, from("more", 1)) },
			"Get":       func(ctx context.Context) error { _, err := d.Get(ctx, from("own", 1)); return err },
		} {
			if err := x.within(time.Second, what, f); err == nil {
				x.errorf("%s: no error from a server that is frozen", what)
			}
		}
		_ = held.Settle(x.brief(), adapters.Requeue)
		_ = x.within(15*time.Second, "Stop of a subscription", func(context.Context) error { return sub.Stop() })
		x.await("the driver finds out", func() bool { return !isUp(d) })
		time.Sleep(time.Until(frozen.Add(20 * time.Second))) // this is the fault
		n.thaw()
		x.consume(x.subscribe(d, from("own", 10)), 1)
	})
}

func cut(x *trial) {
	n := x.node(0)
	network := x.proxy(n)
	x.url = urlAt(1, n.addr())
	far := urlAt(1, network.Addr())
	publisher, consumer := x.connect("publisher", far), x.connect("consumer", far)
	x.consume(x.subscribe(consumer, from("jobs", 50)), 2)
	s := x.stream(publisher, toQueue("jobs"), "job", 8, 256, 0)
	for range 20 {
		x.flowing("messages flow", 100, s)
		network.Cut()
	}
	x.flowing("messages flow again", 100, s)
	x.finish(s)
}

func halfOpen(x *trial) {
	n := x.node(0)
	network := x.proxy(n)
	x.url = urlAt(1, n.addr())
	far := urlAt(1, network.Addr())
	publisher, consumer := x.connect("publisher", far), x.connect("consumer", far)
	x.consume(x.subscribe(consumer, from("jobs", 50)), 2)
	s := x.stream(publisher, toQueue("jobs"), "job", 8, 256, 0)
	x.flowing("messages flow", 200, s)
	network.Blackhole(0, 1)
	x.await("both find out", func() bool { return !isUp(publisher) && !isUp(consumer) })
	network.Heal()
	x.flowing("messages flow again", 200, s)
	x.finish(s)
}

// fullStore: what does not fit is refused, and was not stored.
func fullStore(x *trial) {
	n := x.node(4 << 20)
	x.url = urlAt(1, n.addr())
	d := x.connect("client", x.url)
	x.must(d.Declare(x.soon(), from("jobs", 50)), "declaring")
	s := x.stream(d, toQueue("jobs"), "job", 4, 64<<10, 0)
	x.await("messages are refused", func() bool { return s.nacked.Load() > 20 })
	if !isUp(d) {
		x.errorf("the connection is lost, for a message was refused")
	}
	before := s.confirmed.Load()
	x.consume(x.subscribe(x.connect("consumer", x.url), from("jobs", 50)), 2)
	x.await("messages flow again", func() bool { return s.confirmed.Load() >= before+200 })
	x.finish(s)
}

// workerTask is what a worker does: it takes messages, and never finishes with them.
type workerTask struct{ URL, Queue string }

func hold(task workerTask) error {
	ctx := context.Background()
	d, err := adapters.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	sub, err := d.Subscribe(ctx, from(task.Queue, 10))
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

func killedWorker(x *trial) {
	n := x.node(0)
	x.url = urlAt(1, n.addr())
	held := make(chan string, 100)
	worker, err := startChild("worker", workerTask{x.url.String(), "jobs"}, func(id string) { held <- id })
	x.must(err, "starting a worker")
	session := x.h.Number()
	d := x.connect("client", x.url)
	for i := range 20 {
		x.must(d.Publish(x.soon(), toQueue("jobs"), text(fmt.Sprint("job-", i), 10)), "publishing")
	}
	for range 10 {
		select {
		case id := <-held:
			x.h.Add(history.Event{Op: history.Deliver, Client: "worker", ID: id, Queue: "jobs", Delivery: x.h.Number(), Session: session})
		case <-time.After(patience):
			x.must(errors.New("it takes nothing"), "waiting for the worker")
		}
	}
	_ = worker.Process.Kill()
	_ = worker.Wait() // it was killed
	x.h.Add(history.Event{Op: history.SessionEnd, Client: "worker", Queue: "jobs", Session: session, Err: adapters.ErrSessionLost})
	x.consume(x.subscribe(d, from("jobs", 5)), 1)
	x.awaitHandled()
}

// inRing has a publisher and a consumer at work at each server.
func (x *trial) inRing() (ring, []*stream) {
	r := x.ring()
	x.url = r.url(0, 1, 2)
	var streams []*stream
	for i := range r {
		client := x.connect(fmt.Sprint("client-", i), r.url(i, (i+1)%3, (i+2)%3))
		x.consume(x.subscribe(client, from("jobs", 20)), 2)
		streams = append(streams, x.stream(client, toQueue("jobs"), fmt.Sprint("job-", i), 2, 256, 0))
	}
	x.flowing("messages flow", 100, streams...)
	return r, streams
}

func rollingRestart(x *trial) {
	r, streams := x.inRing()
	for i, n := range r {
		x.h.Add(history.Event{Op: history.Crash}) // in order or not: acknowledgements on their way to it are lost
		if i == 1 {
			n.kill()
		} else {
			n.stop()
		}
		x.flowing("messages flow without a server", 100, streams...)
		n.start()
		x.flowing("messages flow with it", 100, streams...)
	}
	x.finish(streams...)
}

func leaderKilled(x *trial) {
	r, streams := x.inRing()
	leader := r[r.leader(x, "jobs")]
	x.h.Add(history.Event{Op: history.Crash})
	leader.kill()
	x.flowing("messages flow by another leader", 200, streams...)
	leader.start()
	x.flowing("messages flow with it", 100, streams...)
	x.finish(streams...)
}

// majorityLost: what is left can store nothing. No call waits for longer than its ctx.
func majorityLost(x *trial) {
	r, streams := x.inRing()
	x.h.Add(history.Event{Op: history.Crash})
	r[1].kill()
	r[2].kill()
	d := x.drivers[0]
	for what, f := range map[string]func(context.Context) error{
		"Publish": func(ctx context.Context) error {
			return d.Publish(ctx, toQueue("jobs"), text("alone-"+fmt.Sprint(x.h.Number()), 10))
		},
		"Declare": func(ctx context.Context) error { return d.Declare(ctx, from("more", 1)) },
	} {
		err := x.within(2*time.Second, what, f)
		if !errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, context.DeadlineExceeded) {
			x.errorf("%s, with two of three servers gone: %v", what, err)
		}
	}
	r[1].start()
	r[2].start()
	x.flowing("messages flow again", 200, streams...)
	x.finish(streams...)
}

// TestSoak has something go wrong every five seconds, for as long as MOTIF_SOAK says (15 s): a
// server of three is killed, stopped or frozen, or all connections are cut.
func TestSoak(t *testing.T) {
	t.Parallel()
	turns <- struct{}{}
	defer func() { <-turns }()
	length := 15 * time.Second
	if text := os.Getenv("MOTIF_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	x := newTrial(t)
	faults := map[string]int{}
	v := x.run(func(x *trial) {
		r := x.ring()
		x.url = r.url(0, 1, 2)
		network := x.proxy(r[0])
		var streams []*stream
		for i := range 3 {
			addrs := []string{network.Addr(), r[1].addr(), r[2].addr()}
			d := x.connect(fmt.Sprint("client-", i), urlAt(3, append(addrs[i:], addrs[:i]...)...))
			x.consume(x.subscribe(d, from("jobs", 20)), 2)
			streams = append(streams, x.stream(d, toQueue("jobs"), fmt.Sprint("job-", i), 2, 256, 20*time.Millisecond))
		}
		x.flowing("messages flow", 20, streams...)
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
				x.h.Add(history.Event{Op: history.Crash})
				n.end(map[string]os.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGTERM}[what])
				n.start()
			}
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
	x := newTrial(t)
	x.wrap = func(d adapters.Driver) adapters.Driver { return &forgetful{Driver: d} }
	v := x.run(func(x *trial) {
		n := x.node(0)
		x.url = urlAt(1, n.addr())
		d := x.connect("client", x.url)
		x.must(d.Declare(x.soon(), from("jobs", 1)), "declaring")
		for i := range 60 {
			x.must(d.Publish(x.soon(), toQueue("jobs"), text(fmt.Sprint("job-", i), 10)), "publishing")
		}
	})
	if v.Lost != 1 || len(x.problems) == 0 {
		t.Errorf("of a driver that drops a message: %v, %q", v, x.problems)
	}
}
