package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const defaultPublishTimeout = 30 * time.Second

// PublishTimeout is how long a publish may take whose ctx has no deadline (30 s without it): then
// it fails, with an error that is context.DeadlineExceeded and says so. It bounds each attempt of a
// send with [WaitForRoom], and the Wait of a [Receipt].
func PublishTimeout(d time.Duration) BusOption {
	return busOption(func(c *busConfig) error { return positive("PublishTimeout", d, &c.publishTimeout) })
}

// publishTimeout is the [PublishTimeout] of a bus.
type publishTimeout struct {
	limit time.Duration
	last  atomic.Pointer[sharedDeadline]
}

// sharedDeadline is a ctx with a deadline for all publishes that begin in a short time with the
// same ctx of their caller, which most do. A timer for each would be much of what they cost.
type sharedDeadline struct {
	caller <-chan struct{} // the Done of the callers' ctx
	ctx    context.Context
	stop   context.CancelFunc
	until  time.Time // no publish that begins later may use it; zero: only the one that made it may
}

// begin returns a ctx that ends when caller does, or after the limit, or a little later. shared
// reports whether it is others' as well: then it is not the publish's to stop.
func (t *publishTimeout) begin(caller context.Context) (d *sharedDeadline, shared bool) {
	done, last := caller.Done(), t.last.Load()
	if last == nil || last.caller != done { // it may be the only one
		own := &sharedDeadline{caller: done}
		own.ctx, own.stop = context.WithTimeout(caller, t.limit)
		t.last.Store(own)
		return own, false
	}
	now := time.Now()
	if now.Before(last.until) {
		return last, true
	}
	next := &sharedDeadline{caller: done, until: now.Add(min(t.limit/16, time.Second))}
	next.ctx, next.stop = context.WithDeadline(caller, next.until.Add(t.limit)) // ends with its time, or the bus
	t.last.Store(next)
	return next, true
}

// end releases the timer of the last publishes.
func (t *publishTimeout) end() {
	if last := t.last.Swap(nil); last != nil && !last.until.IsZero() {
		last.stop()
	}
}

// publishContext is the ctx of a publish: its caller's, which ends after the [PublishTimeout] if it
// has no deadline. The timer is made when somebody first asks for Done, Deadline or AfterFunc: the
// in-process broker never does. It is a value, part of what a publish allocates anyway, and is not
// copied after init.
type publishContext struct {
	context.Context                 // the caller's
	timeout         *publishTimeout // nil if the caller's has a deadline

	once     sync.Once // guards the start of the timer
	shared   bool
	deadline atomic.Pointer[sharedDeadline] // nil before
}

func (c *publishContext) init(caller context.Context, t *publishTimeout) {
	c.Context = caller
	if _, ok := caller.Deadline(); !ok {
		c.timeout = t
	}
}

// bounded returns the ctx that ends in time.
func (c *publishContext) bounded() context.Context {
	if c.timeout == nil {
		return c.Context
	}
	c.once.Do(func() {
		d, shared := c.timeout.begin(c.Context)
		c.shared = shared
		c.deadline.Store(d)
	})
	return c.deadline.Load().ctx
}

// end is for when the publish is over.
func (c *publishContext) end() {
	if d := c.deadline.Load(); d != nil && !c.shared {
		d.stop()
	}
}

func (c *publishContext) Deadline() (time.Time, bool) { return c.bounded().Deadline() }
func (c *publishContext) Done() <-chan struct{}       { return c.bounded().Done() }

// Err starts no timer: what has none has not ended for its sake.
func (c *publishContext) Err() error {
	d := c.deadline.Load()
	if d == nil {
		return c.Context.Err()
	}
	err := d.ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) && c.Context.Err() == nil {
		return &timeoutError{c.timeout.limit}
	}
	return err
}

// AfterFunc lets package context do without a goroutine for what is derived from c.
func (c *publishContext) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.bounded(), f)
}

// timeoutError says which limit it was.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("not done within %v, the PublishTimeout of a ctx without a deadline", e.limit)
}

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e *timeoutError) Timeout() bool        { return true }
