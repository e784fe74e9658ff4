package faults

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	_ "github.com/motifmq/motif/adapters/jetstream"
	"github.com/motifmq/motif/conformance/history"
)

// patience is for what the driver must make happen.
const patience = 2 * time.Minute

// trial is one run of a row.
type trial struct {
	t    *testing.T
	h    *history.Log
	wrap func(adapters.Driver) adapters.Driver // what stands between the history and the driver
	ctx  context.Context
	halt context.CancelFunc
	wg   sync.WaitGroup
	url  *url.URL // of whoever looks for what is left

	mu       sync.Mutex
	problems []string
	drivers  []*history.Driver
	closers  []func(context.Context) error
}

func newTrial(t *testing.T) *trial {
	x := &trial{t: t, h: history.New(), wrap: func(d adapters.Driver) adapters.Driver { return d }}
	x.ctx, x.halt = context.WithCancel(context.Background())
	return x
}

// run runs a row, puts everything away, and returns what it came to.
func (x *trial) run(f func(*trial)) history.Verdict {
	done := make(chan struct{})
	go func() { // which may be ended from within
		defer close(done)
		f(x)
	}()
	<-done
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for _, d := range x.drivers {
		if err := d.Close(ctx); err != nil {
			x.errorf("closing: %v", err)
		}
	}
	x.halt()
	x.wg.Wait()
	v := x.verdict(ctx)
	for _, violation := range v.Violations[:min(len(v.Violations), 20)] {
		x.errorf("%s", violation)
	}
	for _, f := range slices.Backward(x.closers) {
		if err := f(ctx); err != nil {
			x.errorf("putting away: %v", err)
		}
	}
	return v
}

// verdict looks for what is left and judges. A machine that is busy may bring a call back late.
func (x *trial) verdict(ctx context.Context) history.Verdict {
	const busy = 5 * time.Second
	if err := x.collect(ctx); err != nil {
		x.errorf("looking for what is left: %v", err)
	}
	events := slices.Clone(x.h.Events())
	for i := range events {
		if events[i].Over < busy {
			events[i].Over = 0
		}
	}
	return history.Check(events, x.h.Hanging())
}

func (x *trial) collect(ctx context.Context) error {
	if x.url == nil {
		return nil
	}
	d, err := adapters.Open(ctx, x.url.String())
	if err != nil {
		return err
	}
	defer d.Close(ctx)
	for _, s := range x.h.Queues() {
		s.Passive = true
		for {
			got, err := d.(adapters.Getter).Get(ctx, s)
			if errors.Is(err, adapters.ErrEmpty) {
				break
			}
			if err == nil {
				x.h.Add(history.Event{Op: history.Left, Client: "end", ID: got.Message.UUID, Attempt: got.Attempt, Queue: s.QueueName()})
				err = got.Settle(ctx, adapters.Ack)
			}
			if err != nil {
				return fmt.Errorf("queue %s: %w", s.QueueName(), err)
			}
		}
	}
	return nil
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

// soon is a ctx for what has to be done, by a machine that may be busy.
func (x *trial) soon() context.Context { return x.bounded(patience) }

// brief is a ctx for what takes no time, or is tried again.
func (x *trial) brief() context.Context { return x.bounded(5 * time.Second) }

func (x *trial) bounded(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(x.ctx, d)
	_ = cancel // its end, or the row's, frees what it has
	return ctx
}

// await waits until something is so, which it may take a call of the servers to find out, for as
// long as messages are published and handled: a machine that is busy takes its time for many.
func (x *trial) await(what string, cond func() bool) {
	ctx, cancel := context.WithCancel(x.bounded(4 * patience))
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

func (x *trial) atEnd(f func(context.Context) error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closers = append(x.closers, f)
}

// connect returns a recorded driver.
func (x *trial) connect(client string, u *url.URL) *history.Driver {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	d, err := adapters.Open(ctx, u.String())
	x.must(err, "connecting "+client)
	r := history.Record(x.wrap(d), x.h, client)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drivers = append(x.drivers, r)
	return r
}

// proxy is a network before a server.
func (x *trial) proxy(n *node) *amqptest.Proxy {
	p, err := amqptest.NewProxy("amqp://" + n.addr())
	x.must(err, "starting a proxy")
	x.atEnd(func(context.Context) error { p.Close(); return nil })
	return p
}

// isUp reports whether a driver is connected.
func isUp(d *history.Driver) bool { return d.Health().Connections[0].Up }

func toQueue(name string) adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: name}, Mandatory: true}
}

func from(name string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name}, Prefetch: prefetch}
}

func text(id string, size int) *message.Message {
	return message.NewMessage(id, []byte(strings.Repeat("x", size)))
}

// stream is publishers at work.
type stream struct {
	confirmed, nacked atomic.Int64
	over              atomic.Bool
	running           sync.WaitGroup
}

// stream has publishers publish messages, each until it is confirmed, with so long between two.
func (x *trial) stream(d adapters.Driver, p adapters.Publication, name string, publishers, size int, pause time.Duration) *stream {
	s := &stream{}
	for i := range publishers {
		s.running.Go(func() {
			for n := 0; !s.over.Load() && x.ctx.Err() == nil; n++ {
				m := text(fmt.Sprintf("%s-%d-%d", name, i, n), size)
				for x.ctx.Err() == nil {
					ctx, cancel := context.WithTimeout(x.ctx, 5*time.Second)
					err := d.Publish(ctx, p, m)
					cancel()
					if err == nil {
						s.confirmed.Add(1)
						break
					}
					if errors.Is(err, adapters.ErrNacked) {
						s.nacked.Add(1)
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

// flowing waits until so many messages more are confirmed in each stream.
func (x *trial) flowing(what string, more int64, streams ...*stream) {
	for _, s := range streams {
		before := s.confirmed.Load()
		x.await(what, func() bool { return s.confirmed.Load() >= before+more })
	}
}

// finish lets the publishers come to an end, and all that they sent be handled.
func (x *trial) finish(streams ...*stream) {
	for _, s := range streams {
		s.over.Store(true)
	}
	for _, s := range streams {
		s.running.Wait()
	}
	x.awaitHandled()
}

// subscribe is for subscriptions that must work at once.
func (x *trial) subscribe(d adapters.Driver, s adapters.Source) adapters.Subscription {
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	sub, err := d.Subscribe(ctx, s)
	x.must(err, "subscribing to "+s.Name)
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

// table collects the verdicts of the rows. Those that were not run are in it, too.
type table struct {
	mu      sync.Mutex
	results map[string]result
}

type result struct {
	verdict history.Verdict
	failed  bool
	took    time.Duration
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "attempted\tconfirmed\tunknown\tdelivered\tduplicated\tunexpected\tlost\ttook\t\t fault")
	var all history.Verdict
	ran := 0
	cells := func(v history.Verdict) string {
		return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d", v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost)
	}
	for _, row := range rows {
		r, ok := t.results[row.name]
		if !ok {
			_, _ = fmt.Fprintf(w, "-\t-\t-\t-\t-\t-\t-\t-\tnot run\t %s\n", row.fault)
			continue
		}
		state := "ok"
		if r.failed {
			state = "FAILED"
		}
		ran++
		_, _ = fmt.Fprintf(w, "%s\t%v\t%s\t %s\n", cells(r.verdict), r.took.Round(100*time.Millisecond), state, row.fault)
		all.Add(r.verdict.Counts)
		all.Unexpected += r.verdict.Unexpected
	}
	_, _ = fmt.Fprintf(w, "%s\t\t\t %d of %d rows run\n", cells(all), ran, len(rows))
	_ = w.Flush()
	return b.String()
}
