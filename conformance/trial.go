package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

// trial is one run of a case: what it may use, what it did, and what it found.
// A case may use it in many goroutines; fatalf ends only the one that calls it.
type trial struct {
	id     string
	h      *Harness
	claims adapters.Features
	log    *history.Log
	ctx    context.Context // ends with the case's time, or with the case
	suffix string          // of all its names

	mu       sync.Mutex
	problems []string
	closers  []func(context.Context) error // last first
	wg       sync.WaitGroup                // of spawned goroutines
	clients  int
	judged   bool
	counts   history.Counts
}

// Times that nothing depends on but how long a failure takes.
const (
	patience = time.Minute            // for what must happen, also on a busy machine
	silence  = 150 * time.Millisecond // for what must not
	closing  = 30 * time.Second       // for closing one client
)

var trials atomic.Int64

func newTrial(id string, h *Harness, claims adapters.Features) *trial {
	t := &trial{
		id: id, claims: claims, log: history.New(), judged: true,
		suffix: fmt.Sprintf("%x-%d", time.Now().UnixMicro()&0xffffff, trials.Add(1)),
	}
	t.h = t.apart(h)
	return t
}

// execute runs the case, puts everything away, judges, and returns what is
// wrong. A case that does not come to an end in its time is left behind.
func (t *trial) execute(ctx context.Context, do func(*trial)) ([]string, history.Counts) {
	return t.executeWithin(ctx, 2*closing, do)
}

// executeWithin is execute that waits so long for what does not end with ctx.
func (t *trial) executeWithin(ctx context.Context, wait time.Duration, do func(*trial)) ([]string, history.Counts) {
	var halt context.CancelFunc
	t.ctx, halt = context.WithCancel(ctx)
	defer halt()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.label("")
		t.guarded(do)
		t.put(halt)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(wait):
			t.errorf("it did not come to an end; its goroutines:\n%s", strings.Join(append(t.goroutines(""), t.goroutines(inHook)...), "\n"))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var problems []string
	for _, problem := range t.problems { // the same in each run
		problems = append(problems, strings.ReplaceAll(problem, "-"+t.suffix, ""))
	}
	return problems, t.counts
}

// guarded calls do, which may end its goroutine by fatalf, or panic.
func (t *trial) guarded(do func(*trial)) {
	var ending sync.WaitGroup
	ending.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				t.errorf("panic: %v\n%s", v, callers())
			}
		}()
		do(t)
	})
	ending.Wait()
}

// put closes everything, and judges the history.
func (t *trial) put(halt func()) {
	t.mu.Lock()
	closers := t.closers
	t.closers = nil
	t.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), closing)
		if err := closers[i](ctx); err != nil {
			t.errorf("closing: %v", err)
		}
		cancel()
	}
	t.judge()
	halt()
	t.wg.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), closing)
	defer cancel()
	if t.h.Close != nil {
		if err := t.h.Close(ctx); err != nil {
			t.errorf("closing the harness: %v", err)
		}
	}
	t.leaks()
}

// judge looks for what is left in the queues, and lets the history be judged.
// What a connection held goes back to its queue some time after its end, so
// that a bad verdict is looked at again.
func (t *trial) judge() {
	if t.log.Count(history.PublishInvoke) == 0 || !t.judged {
		return
	}
	var v history.Verdict
	for again := range 5 {
		if again > 0 {
			time.Sleep(silence)
		}
		if err := t.collect(); err != nil {
			if !t.failed() {
				t.errorf("looking for what is left: %v", err)
			}
			return
		}
		if v = history.Check(inTime(t.log.Events()), t.log.Hanging()); len(v.Violations) == 0 {
			break
		}
	}
	t.mu.Lock()
	t.counts = v.Counts
	t.mu.Unlock()
	for i, violation := range v.Violations {
		if i == 5 {
			t.errorf("the history has %d more violations", len(v.Violations)-i)
			break
		}
		t.errorf("the history has %v", violation)
	}
}

// inTime returns the events without what a busy machine may be late by when it brings a call back.
func inTime(events []history.Event) []history.Event {
	const late = 5 * time.Second
	events = slices.Clone(events)
	for i := range events {
		if events[i].Over < late {
			events[i].Over = 0
		}
	}
	return events
}

// collect takes what is left out of the queues, and writes it down.
func (t *trial) collect() error {
	queues := t.log.Queues()
	if len(queues) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), patience)
	defer cancel()
	d, err := t.h.Connect(ctx)
	if err != nil {
		return err
	}
	for _, s := range queues {
		s.Prefetch = 100
		if err = errors.Join(err, t.empty(ctx, d, s)); err != nil {
			break
		}
	}
	return errors.Join(err, d.Close(ctx))
}

// empty takes everything out of a queue.
func (t *trial) empty(ctx context.Context, d adapters.Driver, s adapters.Source) error {
	var next func() (adapters.Delivery, error)
	if getter, ok := d.(adapters.Getter); ok && t.claims.Ability.Has(adapters.CanGet) && !s.Queue.SingleActive {
		next = func() (adapters.Delivery, error) { return getter.Get(ctx, s) }
	} else {
		sub, err := d.Subscribe(ctx, s)
		if errors.Is(err, adapters.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer sub.Stop() //nolint:errcheck // its client is closed next
		next = func() (adapters.Delivery, error) {
			short, cancel := context.WithTimeout(ctx, silence)
			defer cancel()
			got, err := sub.Receive(short)
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				err = adapters.ErrEmpty
			}
			return got, err
		}
	}
	for {
		got, err := next()
		if errors.Is(err, adapters.ErrEmpty) || errors.Is(err, adapters.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		t.log.Add(history.Event{Op: history.Left, Client: "end", ID: got.Message.UUID, Attempt: got.Attempt, Queue: s.QueueName()})
		if err := got.Settle(ctx, adapters.Ack); err != nil {
			return err
		}
	}
}

// errorf notes what is wrong, as a sentence.
func (t *trial) errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// fatalf notes what is wrong, and ends the goroutine.
func (t *trial) fatalf(format string, args ...any) {
	t.errorf(format, args...)
	runtime.Goexit()
}

func (t *trial) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.problems) > 0
}

// must ends the case if something that the rule is not about fails.
func (t *trial) must(err error, what string) {
	if err != nil {
		t.fatalf("%s: %v", what, err)
	}
}

// is checks that err is what is wanted.
func (t *trial) is(err, want error, what string) {
	if !errors.Is(err, want) {
		t.errorf("%s: the error is %v, not %v", what, err, want)
	}
}

// atEnd has f called when the case has ended, before what was put there earlier.
func (t *trial) atEnd(f func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closers = append(t.closers, f)
}

// spawn runs f in a goroutine, which must end with ctx or with its client.
func (t *trial) spawn(f func()) {
	t.wg.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				t.errorf("panic: %v\n%s", v, callers())
			}
		}()
		f()
	})
}

// soon returns a ctx for what should not take long.
func (t *trial) soon() context.Context {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	context.AfterFunc(t.ctx, cancel) // which frees the timer, at the case's end
	return ctx
}

// await waits until cond is true. It polls, for conditions that nothing signals.
func (t *trial) await(what string, cond func() bool) {
	ctx := t.soon()
	for pause := 5 * time.Millisecond; !cond(); pause = min(2*pause, silence) {
		select {
		case <-ctx.Done():
			t.fatalf("in vain for %v: %s", patience, what)
		case <-time.After(pause):
		}
	}
}

// wait waits until c is closed, or has something.
func wait[T any](t *trial, c <-chan T, what string) T {
	select {
	case v := <-c:
		return v
	case <-t.soon().Done():
		t.fatalf("in vain for %v: %s", patience, what)
		panic("unreachable")
	}
}

// connect returns a client of the case's own, whose work goes into its history.
func (t *trial) connect() *history.Driver {
	t.mu.Lock()
	t.clients++
	client := fmt.Sprintf("client-%d", t.clients)
	t.mu.Unlock()
	d, err := t.h.Connect(t.soon())
	t.must(err, "connecting")
	r := history.Record(d, t.log, client)
	t.atEnd(r.Close)
	return r
}

// silent keeps what goes wrong on purpose from filling a log.
var silent = patterns.WithLogger(slog.New(slog.DiscardHandler))

// bus returns a bus on a client of its own.
func (t *trial) bus(opts ...patterns.BusOption) *patterns.Bus {
	b := patterns.New(t.connect(), append([]patterns.BusOption{silent}, opts...)...)
	t.atEnd(b.Close)
	return b
}

// name returns a name that nobody else uses.
func (t *trial) name(what string) string { return "conformance-" + what + "-" + t.suffix }
