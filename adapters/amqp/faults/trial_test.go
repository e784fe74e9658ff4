package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// trial is one run of a row: its history, what it has to say, and what has to
// be put away afterwards.
type trial struct {
	t         *testing.T
	name      string
	h         *history.Log
	stalls    stalls
	log       *journal
	wrap      func(full) full // what stands between the history and the driver
	heartbeat time.Duration   // of clients
	once      time.Duration   // for one publish, before it is tried again
	patience  time.Duration   // for the next message, while something has to happen

	ctx  context.Context // of the row's own goroutines
	halt context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	problems []string
	secrets  []string
	printed  []any // what must not show a secret
	drivers  []*amqp.Driver
	buses    []func(context.Context) error // to be closed first
	closers  []func(context.Context) error
	sites    []*site
}

func newTrial(t *testing.T, name string) *trial {
	x := &trial{
		t: t, name: name, h: history.New(), log: &journal{},
		heartbeat: 2 * time.Second, once: 5 * time.Second, patience: 2 * time.Minute,
		wrap: func(d full) full { return d },
	}
	x.stalls.start = time.Now()
	x.ctx, x.halt = context.WithTimeout(context.Background(), 10*time.Minute)
	return x
}

// undisturbed is for rows in which no connection may be lost, and no publish be unconfirmed: nor
// may they where the machine stands still for a while.
func (x *trial) undisturbed() { x.heartbeat, x.once = time.Minute, time.Minute }

// run runs the row, puts everything away, and returns what it came to.
func (x *trial) run(f func(*trial)) history.Verdict {
	done := make(chan struct{})
	go func() { // which may be ended from within
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				x.errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		label(x.name)
		x.spawn(x.stalls.watch)
		f(x)
	}()
	<-done
	if x.t.Skipped() {
		return history.Verdict{}
	}
	x.close()
	v := x.verdict()
	for _, violation := range v.Violations[:min(len(v.Violations), 20)] {
		x.errorf("%s", violation)
	}
	if more := len(v.Violations) - 20; more > 0 {
		x.errorf("and %d violations more", more)
	}
	if stacks := leaked(x.name); stacks != "" {
		x.errorf("goroutines are left:\n%s", stacks)
	}
	for _, e := range x.h.Events() {
		if e.Err != nil {
			x.shown(e.Err)
		}
	}
	for _, d := range x.drivers {
		x.shown(public(d)...)
	}
	for _, where := range shows(x.log, x.secrets, x.printed) {
		x.errorf("a password can be read %s", where)
	}
	return v
}

// close ends all buses, then all other clients, then the row's goroutines.
func (x *trial) close() {
	label(x.name)
	x.mu.Lock()
	phases := [][]func(context.Context) error{slices.Clone(x.buses), slices.Clone(x.closers)}
	x.mu.Unlock()
	for _, closers := range phases {
		var closing sync.WaitGroup
		for _, f := range closers {
			closing.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := f(ctx); err != nil {
					x.errorf("closing: %v", err)
				}
			})
		}
		closing.Wait()
	}
	x.halt()
	x.wg.Wait()
}

// verdict looks for what is left and judges. What a connection held goes back
// to its queue some time after its end, so that a bad verdict is looked at again.
func (x *trial) verdict() (v history.Verdict) {
	for again := range 4 {
		if again > 0 {
			for _, s := range x.sites {
				s.awaitEnds()
			}
			time.Sleep(500 * time.Millisecond)
		}
		for _, s := range x.sites {
			if err := s.collect(); err != nil {
				x.errorf("looking for what is left: %v", err)
			}
		}
		v = history.Check(x.stalls.forgive(x.h.Events()), x.h.Hanging())
		if len(v.Violations) == 0 {
			break
		}
	}
	return v
}

func (x *trial) errorf(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, fmt.Sprintf(format, args...))
}

// fatalf ends the row.
func (x *trial) fatalf(format string, args ...any) {
	x.errorf(format, args...)
	runtime.Goexit()
}

func (x *trial) must(err error, what string) {
	if err != nil {
		x.fatalf("%s: %v", what, err)
	}
}

// want checks an error, and that it shows no secret.
func (x *trial) want(err, target error, what string) {
	if err != nil {
		x.shown(err)
	}
	if !errors.Is(err, target) {
		x.errorf("%s: got error %v, want %v", what, err, target)
	}
}

// shown notes values that must not show a secret.
func (x *trial) shown(values ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.printed = append(x.printed, values...)
}

// secret returns a new password.
func (x *trial) secret() string {
	s := "s3cr%et " + rand.Text()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.secrets = append(x.secrets, s)
	return s
}

// soon is a ctx for what has to be done in time.
func (x *trial) soon() context.Context { return x.bounded(2 * time.Minute) }

func (x *trial) bounded(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(x.ctx, d)
	_ = cancel // its end, or the row's, frees what it has
	return ctx
}

// await waits until something is so, for as long as messages are published and handled: a machine
// that is busy takes its time for many.
func (x *trial) await(what string, cond func() bool) {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	still := time.AfterFunc(x.patience, cancel)
	defer still.Stop()
	before := 0
	err := x.h.Wait(ctx, func() bool {
		if n := x.h.Count(history.PublishOK) + x.h.Count(history.Settled); n > before {
			before = n
			still.Reset(x.patience)
		}
		return cond()
	})
	if err != nil {
		for _, s := range x.sites { // what the broker waits for, if it does
			queues, err := s.Queues(x.soon())
			x.errorf("its queues: %+v (%v)", queues, err)
		}
		x.fatalf("waited in vain, with nothing else for %v: %s", x.patience, what)
	}
}

// awaitHandled waits until every confirmed message was handled.
func (x *trial) awaitHandled() {
	x.await("confirmed messages are handled", func() bool { return x.h.Open() == 0 })
}

// within calls f with a ctx of so long, which it has to heed.
func (x *trial) within(d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	back := x.h.Call(ctx, "row", what)
	err := f(ctx)
	back(err)
	return err
}

// spawn runs f beside the row, until its ctx ends at the latest.
func (x *trial) spawn(f func(context.Context)) {
	x.wg.Go(func() { f(x.ctx) })
}

// atEnd has f called when all is put away, together with others. Buses are
// closed before.
func (x *trial) atEnd(f func(context.Context) error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closers = append(x.closers, f)
}

// bus returns a bus on a recorded driver.
func (x *trial) bus(d full, client string, opts ...patterns.BusOption) *patterns.Bus {
	b := patterns.New(d, append([]patterns.BusOption{patterns.WithLogger(x.log.logger(client))}, opts...)...)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.buses = append(x.buses, b.Close)
	return b
}
