package faults

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/kafka"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/conformance/history"
)

// patience is for what the driver must make happen.
const patience = 3 * time.Minute

// spec is that of the queues of trials. With MOTIF_FAULTS_ORDERED=1 they have a single active
// consumer, and no share group.
var spec = adapters.QueueSpec{SingleActive: os.Getenv("MOTIF_FAULTS_ORDERED") != ""}

// trial is one run of a row, with a queue of its name.
type trial struct {
	t      *testing.T
	node   *node.Node
	others []*node.Node // of its cluster

	// Of streams that begin:
	prefix string
	pause  time.Duration // between two messages
	delay  time.Duration

	name string
	h    *history.Log
	wrap func(adapters.Driver) adapters.Driver // what stands between the history and the driver
	ctx  context.Context
	halt context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	problems []string
	drivers  []*history.Driver
}

func newTrial(t *testing.T, n *node.Node, name string) *trial {
	x := &trial{t: t, node: n, prefix: "job", name: name, h: history.New(), wrap: func(d adapters.Driver) adapters.Driver { return d }}
	x.ctx, x.halt = context.WithCancel(context.Background())
	return x
}

// judge runs a row, puts everything away, and returns what it came to.
func (x *trial) judge(f func(*trial)) history.Verdict {
	done := make(chan struct{})
	go func() { // which may be ended from within
		defer close(done)
		f(x)
	}()
	<-done
	x.halt()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, d := range x.drivers {
		if err := d.Close(ctx); err != nil {
			x.errorf("closing: %v", err)
		}
	}
	x.wg.Wait()
	const busy = 5 * time.Second // a machine that is busy may bring a call back late
	events := slices.Clone(x.h.Events())
	for i := range events {
		if events[i].Over < busy {
			events[i].Over = 0
		}
	}
	v := history.Check(events, x.h.Hanging())
	for _, violation := range v.Violations[:min(len(v.Violations), 20)] {
		x.errorf("%s", violation)
	}
	return v
}

func (x *trial) errorf(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, fmt.Sprintf(format, args...))
}

// must ends the row where there is an error.
func (x *trial) must(err error, what string) {
	if err != nil {
		x.errorf("%s: %v", what, err)
		runtime.Goexit()
	}
}

// brief is a ctx for what takes no time.
func (x *trial) brief() context.Context {
	ctx, cancel := context.WithTimeout(x.ctx, time.Minute)
	_ = cancel // its end, or the row's, frees what it has
	return ctx
}

// await waits until something is so, for as long as messages are published and handled: a machine
// that is busy takes its time for many.
func (x *trial) await(what string, cond func() bool) {
	ctx, cancel := context.WithTimeout(x.ctx, 3*patience)
	defer cancel()
	still := time.AfterFunc(patience, cancel)
	defer still.Stop()
	before := 0
	err := x.h.Wait(ctx, func() bool {
		if n := x.h.Count(history.PublishOK) + x.h.Count(history.Settled); n > before {
			before = n
			still.Reset(patience)
		}
		return cond()
	})
	if err != nil {
		x.must(fmt.Errorf("waited in vain, with nothing else for %v", patience), what)
	}
}

func (x *trial) awaitHandled() {
	x.await("every confirmed message is handled", func() bool { return x.h.Open() == 0 })
}

// within calls f with a ctx of so long, which it has to heed.
func (x *trial) within(d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(x.ctx, d)
	defer cancel()
	back := x.h.Call(ctx, "row", what)
	err := f(ctx)
	back(err)
	return err
}

// connect returns a recorded driver.
func (x *trial) connect(client string) *history.Driver {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	at := x.node.URL()
	if len(x.others) > 0 {
		more := url.Values{}
		for _, n := range x.others {
			more.Add("broker", n.Addr())
		}
		at += "?" + more.Encode()
	}
	d, err := adapters.Open(ctx, at)
	x.must(err, "connecting "+client)
	r := history.Record(x.wrap(d), x.h, client)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drivers = append(x.drivers, r)
	return r
}

func (x *trial) to() adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: x.name}}
}

func (x *trial) from(prefetch int) adapters.Source {
	return adapters.Source{Endpoint: x.to().To, Prefetch: prefetch, Queue: spec}
}

func text(id string, size int) *message.Message {
	return message.NewMessage(id, []byte(strings.Repeat("x", size)))
}

// stream is publishers at work.
type stream struct {
	confirmed atomic.Int64
	over      atomic.Bool
	running   sync.WaitGroup
}

// stream has publishers publish messages, each until it is confirmed.
func (x *trial) stream(d adapters.Driver, publishers int) *stream {
	s, to, prefix, pause := &stream{}, x.to(), x.prefix, x.pause
	to.Delay = x.delay
	for i := range publishers {
		s.running.Go(func() {
			for n := 0; !s.over.Load() && x.ctx.Err() == nil; n++ {
				m := text(fmt.Sprintf("%s-%d-%d", prefix, i, n), 256)
				for x.ctx.Err() == nil {
					ctx, cancel := context.WithTimeout(x.ctx, 5*time.Second)
					err := d.Publish(ctx, to, m)
					cancel()
					if err == nil {
						s.confirmed.Add(1)
						break
					}
					time.Sleep(10 * time.Millisecond) // not to make it a hot loop
				}
				time.Sleep(pause)
			}
		})
	}
	x.wg.Go(s.running.Wait)
	return s
}

// flowing waits until so many messages more are confirmed.
func (x *trial) flowing(what string, more int64, streams ...*stream) {
	var enough []int64
	for _, s := range streams {
		enough = append(enough, s.confirmed.Load()+more)
	}
	x.await(what, func() bool {
		for i, s := range streams {
			if s.confirmed.Load() < enough[i] {
				return false
			}
		}
		return true
	})
}

// finish lets the publishers come to an end, and all that they sent be handled.
func (x *trial) finish(streams ...*stream) {
	for _, s := range streams {
		s.over.Store(true)
		s.running.Wait()
	}
	x.awaitHandled()
}

func (x *trial) subscribe(d adapters.Driver, prefetch int) adapters.Subscription {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	sub, err := d.Subscribe(ctx, x.from(prefetch))
	x.must(err, "subscribing")
	return sub
}

// consume has workers acknowledge what comes, until the subscription ends.
func (x *trial) consume(sub adapters.Subscription, workers int) {
	for range workers {
		x.wg.Go(func() {
			for {
				got, err := sub.Receive(x.ctx)
				if err != nil {
					return
				}
				_ = got.Settle(x.ctx, adapters.Ack)
			}
		})
	}
}
