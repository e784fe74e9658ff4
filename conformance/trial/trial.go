package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
)

// Patience is how long a row waits for what must happen, while no message moves.
const Patience = 3 * time.Minute

// Trial is one run of a row. Its methods may be called from several goroutines; those that end the
// row (Must and what calls it) from the row's own only.
type Trial struct {
	// Log is the history of all drivers. A row adds to it what a recorder cannot see: a process
	// that was killed, a broker that forgot what it was told last.
	Log *history.Log

	// Wrap, unless nil, returns what is to stand between the history and a driver, to try whether
	// a trial finds what a broken one does.
	Wrap func(adapters.Driver) adapters.Driver

	// Left, unless empty, is the URL at which what is left in the queues is looked for in the end,
	// with a driver that is a Getter. What is neither handled nor found there is lost.
	Left string

	ctx  context.Context
	halt context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	problems []string
	drivers  []*history.Driver
	closers  []func(context.Context) error
}

// New returns a trial. Do runs it.
func New() *Trial {
	x := &Trial{Log: history.New()}
	x.ctx, x.halt = context.WithCancel(context.Background())
	return x
}

// Do runs a row, closes all drivers, calls what AtEnd was given, and returns what the row came to
// and all that was wrong, which includes the verdict's violations. It is called once.
func (x *Trial) Do(f func(*Trial)) (v history.Verdict, problems []string) {
	done := make(chan struct{})
	go func() { // which may be ended from within
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				x.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f(x)
	}()
	<-done
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	defer cancel()
	x.mu.Lock()
	drivers, closers := slices.Clone(x.drivers), slices.Clone(x.closers)
	x.mu.Unlock()
	for _, d := range drivers {
		if err := d.Close(ctx); err != nil {
			x.Errorf("closing: %v", err)
		}
	}
	x.halt()
	x.wg.Wait()
	v = x.verdict(ctx)
	const most = 20
	for _, violation := range v.Violations[:min(len(v.Violations), most)] {
		x.Errorf("%s", violation)
	}
	if more := len(v.Violations) - most; more > 0 {
		x.Errorf("and %d violations more", more)
	}
	for _, f := range slices.Backward(closers) {
		if err := f(ctx); err != nil {
			x.Errorf("putting away: %v", err)
		}
	}
	return v, x.problems
}

// verdict looks for what is left, and judges. A machine that is busy may bring a call back late.
func (x *Trial) verdict(ctx context.Context) history.Verdict {
	const busy = 5 * time.Second
	if err := x.collect(ctx); err != nil {
		x.Errorf("looking for what is left: %v", err)
	}
	events := slices.Clone(x.Log.Events())
	for i := range events {
		if events[i].Over < busy {
			events[i].Over = 0
		}
	}
	return history.Check(events, x.Log.Hanging())
}

func (x *Trial) collect(ctx context.Context) error {
	if x.Left == "" {
		return nil
	}
	d, err := adapters.Open(ctx, x.Left)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close(ctx) }() // it was only to look
	getter, ok := d.(adapters.Getter)
	if !ok {
		return fmt.Errorf("%w: %s is no Getter", adapters.ErrUnsupported, d.Features().Adapter)
	}
	for _, s := range x.Log.Queues() {
		s.Passive = true
		for {
			got, err := getter.Get(ctx, s)
			if errors.Is(err, adapters.ErrEmpty) {
				break
			}
			if err == nil {
				x.Log.Add(history.Event{Op: history.Left, Client: "end", ID: got.Message.UUID, Attempt: got.Attempt, Queue: s.QueueName()})
				err = got.Settle(ctx, adapters.Ack)
			}
			if err != nil {
				return fmt.Errorf("queue %s: %w", s.QueueName(), err)
			}
		}
	}
	return nil
}

// Context ends with the row.
func (x *Trial) Context() context.Context { return x.ctx }

// Errorf notes that something is wrong. The row goes on.
func (x *Trial) Errorf(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, fmt.Sprintf(format, args...))
}

// Must ends the row if err is not nil. what says what could not be done.
func (x *Trial) Must(err error, what string) {
	if err != nil {
		x.Errorf("%s: %v", what, err)
		runtime.Goexit()
	}
}

// Soon returns a ctx for what has to be done, by a machine that may be busy.
func (x *Trial) Soon() context.Context { return x.bounded(Patience) }

// Brief returns a ctx for what takes no time, or is tried again.
func (x *Trial) Brief() context.Context { return x.bounded(5 * time.Second) }

func (x *Trial) bounded(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(x.ctx, d)
	_ = cancel // its end, or the row's, frees what it has
	return ctx
}

// Await waits until cond is true, for as long as messages are published and handled, and Patience
// more. It calls cond now and then, from the row's goroutine. what says what is waited for.
func (x *Trial) Await(what string, cond func() bool) {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	still := time.AfterFunc(Patience, cancel)
	defer still.Stop()
	before := 0
	err := x.Log.Wait(ctx, func() bool {
		if n := x.Log.Count(history.PublishOK) + x.Log.Count(history.Settled); n > before {
			before = n
			still.Reset(Patience)
		}
		return cond()
	})
	if err != nil {
		x.Must(fmt.Errorf("waited in vain, with nothing else for %v", Patience), what)
	}
}

// AwaitHandled waits until every confirmed message is handled.
func (x *Trial) AwaitHandled() {
	x.Await("every confirmed message is handled", func() bool { return x.Log.Open() == 0 })
}

// Within calls f with a ctx of so long, and returns its error. A call that does not heed its ctx
// is a violation.
func (x *Trial) Within(d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(x.ctx, d)
	defer cancel()
	back := x.Log.Call(ctx, "row", what)
	err := f(ctx)
	back(err)
	return err
}

// Go runs f beside the row. It has to end with Context, at the latest.
func (x *Trial) Go(f func()) { x.wg.Go(f) }

// AtEnd has f called once all drivers are closed and the verdict is made; what was given last is
// called first.
func (x *Trial) AtEnd(f func(context.Context) error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closers = append(x.closers, f)
}

// TempDir returns a new folder, which is removed when the row ends.
func (x *Trial) TempDir() string {
	folder, err := os.MkdirTemp("", "motif-trial")
	x.Must(err, "making a folder")
	x.AtEnd(func(context.Context) error { return os.RemoveAll(folder) })
	return folder
}

// Open opens a URL, and returns the driver, recorded as client. It is closed when the row ends.
func (x *Trial) Open(client, url string) *history.Driver {
	d, err := adapters.Open(x.Soon(), url)
	x.Must(err, "connecting "+client)
	if x.Wrap != nil {
		d = x.Wrap(d)
	}
	r := history.Record(d, x.Log, client)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drivers = append(x.drivers, r)
	return r
}

// IsUp reports whether all connections of a driver are up.
func IsUp(d *history.Driver) bool {
	for _, c := range d.Health().Connections {
		if !c.Up {
			return false
		}
	}
	return true
}
