package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// A child is a process of ours that takes messages and never finishes with
// them, to be killed in the middle. It is this test program, told by this variable what to be.
const roleVar = "MOTIF_FAULTS_CHILD"

// What the child reads, once, and writes, a line for each message.
type (
	childTask struct {
		URL, Queue string
		Workers    int
		Ordered    bool // by keyOf
		Prefetch   int  // 0: as it is without
	}
	childHolds struct {
		ID          string
		Attempt     int
		Redelivered bool
	}
)

// beChild works until it is killed, or whoever started it is gone.
func beChild(role string) {
	in := json.NewDecoder(os.Stdin)
	var task childTask
	err := in.Decode(&task)
	if err == nil {
		err = work(role, task)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func work(role string, task childTask) error {
	ctx := context.Background()
	bus, err := patterns.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	if role == "partitions" {
		return workOnPartitions(ctx, bus, task)
	}
	if role == "exits" {
		return workUntilPoisoned(ctx, bus, task)
	}
	var mu sync.Mutex
	hold := func(ctx context.Context) {
		d, _ := patterns.DeliveryFrom(ctx)
		mu.Lock()
		_ = json.NewEncoder(os.Stdout).Encode(childHolds{d.ID, d.Attempt, d.Redelivered})
		mu.Unlock()
		select {}
	}
	if role == "server" {
		_, err = patterns.NewRPC[int, int](bus, task.Queue).Serve(ctx, func(ctx context.Context, _ int) (int, error) {
			hold(ctx)
			return 0, nil
		}, patterns.Workers(task.Workers))
	} else {
		_, err = patterns.NewWorkQueue[string](bus, task.Queue).Work(ctx, func(ctx context.Context, _ string) error {
			hold(ctx)
			return nil
		}, patterns.Workers(task.Workers))
	}
	if err == nil {
		_, err = fmt.Println(`{"ID":"ready"}`)
	}
	return err
}

// child is the other side.
type child struct {
	x       *trial
	cmd     *exec.Cmd
	session uint64
	holds   chan childHolds
	kill    func()
}

// child starts one, which has subscribed when this returns. What it holds is
// put into the history.
func (s *site) child(role, queue string, workers int) *child {
	x := s.x
	program, err := os.Executable()
	x.must(err, "finding this program")
	cmd := exec.CommandContext(x.ctx, program)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	x.must(err, "a pipe to the child")
	out, err := cmd.StdoutPipe()
	x.must(err, "a pipe from the child")
	x.must(cmd.Start(), "starting a child")
	c := &child{x: x, cmd: cmd, session: x.h.Number(), holds: make(chan childHolds, 1000)}
	read, ready := make(chan struct{}), make(chan struct{})
	c.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		x.h.Add(history.Event{Op: history.SessionEnd, Client: "child", Queue: queue, Session: c.session, Err: adapters.ErrSessionLost})
	})
	x.atEnd(func(context.Context) error { c.kill(); return nil })
	x.must(json.NewEncoder(in).Encode(childTask{URL: s.url(), Queue: queue, Workers: workers}), "telling the child what to do")
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var h childHolds
			if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
				x.errorf("the child said %q: %v", lines.Text(), err)
				continue
			}
			if h.ID == "ready" {
				close(ready)
				continue
			}
			x.h.Add(history.Event{
				Op: history.Deliver, Client: "child", ID: h.ID, Attempt: h.Attempt, Queue: queue,
				Begun:    1, // its handlers tell in no order
				Delivery: x.h.Number(), Session: c.session, Redelivered: h.Redelivered,
			})
			c.holds <- h
		}
	}()
	x.await("the child has subscribed", func() bool { return isClosed(ready) })
	return c
}

// await returns the next message that the child holds.
func (c *child) await() childHolds {
	select {
	case h := <-c.holds:
		return h
	case <-time.After(c.x.patience):
		c.x.fatalf("the child said nothing for %v", c.x.patience)
	}
	return childHolds{}
}
