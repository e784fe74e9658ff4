package faults

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// partitionCount is of the queue in these tests.
const partitionCount = 6

// keyReport is what a child tells of a message, and waits until it was heard. The child that is
// ready, and one that has stopped, tell of none.
type keyReport struct {
	Event string // ready, begin, done, failed, stopped
	Text  string
}

// workOnPartitions works until nothing more comes from standard input, and then stops as a program
// does that gets SIGTERM.
func workOnPartitions(ctx context.Context, bus *patterns.Bus, task childTask) error {
	var mu sync.Mutex
	answers := bufio.NewReader(os.Stdin)
	over := make(chan struct{})
	heard := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if c, err := answers.ReadByte(); err != nil || c == 's' {
				return
			}
			heard <- struct{}{}
		}
	}()
	tell := func(event, text string) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(keyReport{event, text})
		<-heard
	}
	jobs := patterns.NewWorkQueue[string](bus, task.Queue, patterns.Partitions(partitionCount, keyOf))
	_, err := jobs.Work(ctx, func(ctx context.Context, text string) error {
		tell("begin", text)
		select {
		case <-time.After(rand.N(20 * time.Millisecond)): // the work
		case <-ctx.Done():
			tell("failed", text)
			return ctx.Err()
		}
		if rand.IntN(10) == 0 {
			tell("failed", text)
			return errors.New("failed")
		}
		tell("done", text)
		return nil
	}, patterns.Workers(8), patterns.Prefetch(task.Prefetch), patterns.LossLimit(1000), patterns.Retry(patterns.RetryPolicy{Attempts: 1000, Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}))
	if err != nil {
		return err
	}
	tell("ready", "")
	<-over
	go func() { // what handlers tell meanwhile
		for {
			if _, err := answers.ReadByte(); err != nil {
				return
			}
			heard <- struct{}{}
		}
	}()
	err = bus.Close(ctx)
	tell("stopped", "")
	return err
}

// keysAcross checks the order of keys as handlers in several processes tell of it. A message may be
// handled again, by another process and later than those behind it. But before one begins for the
// first time, all those before it have been done.
type keysAcross struct {
	mu      sync.Mutex
	running map[int]map[string]string // by process and key
	begun   map[string]int            // how many of a key
	done    map[string]bool
	count   atomic.Int64 // of done
	by      map[int]int  // how many each process did
	step    func()       // called at each report
	wrong   []string
}

func (o *keysAcross) hear(process int, r keyReport) {
	o.step()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running[process] == nil {
		o.running[process] = map[string]string{}
	}
	running, key := o.running[process], r.Text
	if r.Text != "" {
		key = keyOf(r.Text)
	}
	switch r.Event {
	case "begin":
		if other, ok := running[key]; ok {
			o.wrong = append(o.wrong, fmt.Sprintf("%s begins while %s runs, in process %d", r.Text, other, process))
		}
		running[key] = r.Text
		n := numberOf(r.Text)
		if n < o.begun[key] {
			return
		}
		for m := range n {
			if before := key + fmt.Sprintf(":%d", m); !o.done[before] {
				o.wrong = append(o.wrong, fmt.Sprintf("%s begins in process %d, and %s is not done", r.Text, process, before))
			}
		}
		o.begun[key] = n + 1
	case "done":
		delete(running, key)
		o.by[process]++
		if !o.done[r.Text] {
			o.done[r.Text] = true
			o.count.Add(1)
		}
	case "failed":
		delete(running, key)
	}
}

// partitionChild is one process.
type partitionChild struct {
	number  int
	cmd     *exec.Cmd
	in      io.WriteCloser
	network *amqptest.Proxy
	ready   chan struct{}
	stopped chan struct{} // closed when it has said so
	gone    chan struct{}
}

func startPartitionChild(ctx context.Context, t *testing.T, number int, url string, task childTask, order *keysAcross) *partitionChild {
	t.Helper()
	network, err := amqptest.NewProxy(url)
	for tries := 0; err != nil && tries < 20; tries++ { // another process had the port, just now
		network, err = amqptest.NewProxy(url)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &partitionChild{
		number: number, network: network, cmd: exec.CommandContext(ctx, program),
		ready: make(chan struct{}), stopped: make(chan struct{}), gone: make(chan struct{}),
	}
	c.cmd.Env = append(os.Environ(), roleVar+"=partitions")
	if os.Getenv("MOTIF_PARTITIONS") != "" {
		c.cmd.Stderr = os.Stderr
	}
	c.in, err = c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.gone)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r keyReport
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Errorf("process %d said %q: %v", number, lines.Text(), err)
				continue
			}
			switch r.Event {
			case "ready":
				close(c.ready)
			case "stopped":
				close(c.stopped)
			}
			order.hear(number, r)
			_, _ = c.in.Write([]byte{'.'})
		}
		_ = c.cmd.Wait()
		network.Close()
	}()
	task.URL = network.URL(url)
	if err := json.NewEncoder(c.in).Encode(task); err != nil {
		t.Fatal(err)
	}
	return c
}

// stop ends it as SIGTERM does.
func (c *partitionChild) stop(ctx context.Context, t *testing.T) {
	c.awaitReady() // before that it would not hear of it
	_, _ = c.in.Write([]byte{'s'})
	select {
	case <-c.stopped:
	case <-c.gone: // it could not begin
	case <-ctx.Done():
		t.Errorf("process %d does not stop", c.number)
	}
	c.kill()
}

// awaitReady waits until it works, or is gone: when its network is cut it cannot begin.
func (c *partitionChild) awaitReady() {
	select {
	case <-c.ready:
	case <-c.gone:
	}
}

func (c *partitionChild) kill() {
	_ = c.cmd.Process.Kill()
	<-c.gone
}

// TestPartitionsAcrossProcesses: processes come, are killed, lose their connections, and are
// replaced by others one after another. Each key keeps its order, and nothing is lost. With
// MOTIF_PARTITIONS=1h it goes on for so long.
func TestPartitionsAcrossProcesses(t *testing.T) {
	t.Parallel()
	span, err := time.ParseDuration(cmp.Or(os.Getenv("MOTIF_PARTITIONS"), "4s"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, prefetch := range map[amqp.QueueType]int{
		amqp.Quorum:  16,
		amqp.Classic: 8, // where all that comes back is handled alone
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			const keys, most, queue = 40, 200, "parted"
			url := amqptest.Shared(t).URL + "?queue_type=" + string(kind)
			ctx, step := whileMoving(t)
			bus, err := patterns.Open(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[string](bus, queue, patterns.Partitions(partitionCount, keyOf))
			order := &keysAcross{running: map[int]map[string]string{}, begun: map[string]int{}, done: map[string]bool{}, by: map[int]int{}, step: step}
			number := 0
			start := func() *partitionChild {
				number++
				return startPartitionChild(ctx, t, number, url, childTask{Queue: queue, Prefetch: prefetch}, order)
			}
			children := []*partitionChild{start(), start()}
			defer func() {
				for _, c := range children {
					c.kill()
				}
			}()
			for _, c := range children {
				c.awaitReady()
			}
			sent := make(chan int64)
			end := time.Now().Add(span)
			go func() {
				var n int64
				defer func() { sent <- n }()
				var unknown []*patterns.Receipt
				for ; time.Now().Before(end); n++ {
					for n-order.count.Load() > most && time.Now().Before(end) {
						time.Sleep(time.Millisecond)
					}
					text := keyed(int(n%keys), int(n/keys))
					r, err := jobs.SendAsync(ctx, text, patterns.MessageID(text))
					if err != nil {
						t.Errorf("sending: %v", err)
						return
					}
					unknown = append(unknown, r)
				}
				for _, r := range unknown {
					if err := r.Wait(ctx); err != nil {
						t.Errorf("sending: %v", err)
					}
				}
			}()
			pause := min(span/10, 2*time.Second) // about
			var did [4]int
			for time.Now().Before(end) {
				select {
				case <-time.After(pause/2 + rand.N(pause)):
				case <-ctx.Done():
				}
				at, what := rand.IntN(len(children)), rand.IntN(4)
				did[what]++
				switch {
				case len(children) < 2 || what == 0 && len(children) < 4:
					children = append(children, start())
				case what == 1:
					children[at].network.Cut()
				case what == 2:
					children[at].kill()
					children = slices.Delete(children, at, at+1)
				default: // as a rolling deploy does
					next := start()
					next.awaitReady()
					children[at].stop(ctx, t)
					children[at] = next
				}
			}
			n := <-sent
			for order.count.Load() < n && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			order.mu.Lock()
			defer order.mu.Unlock()
			for _, text := range order.wrong[:min(len(order.wrong), 10)] {
				t.Error(text)
			}
			if done := order.count.Load(); done < n || len(order.wrong) > 0 {
				t.Errorf("%d of %d are done, with %d faults of order", done, n, len(order.wrong))
			}
			t.Logf("%d messages by %d processes (%d worked); came %d, cut %d, killed %d, replaced %d", n, number, len(order.by), did[0], did[1], did[2], did[3])
		})
	}
}
