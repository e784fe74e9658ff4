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

// PublishTimeout is how long a publish may take whose ctx has no deadline (30 s without it): then it
// fails, with an error that is context.DeadlineExceeded and says so. It bounds each try of a
// send with [HoldBack], and the Wait of a [Receipt].
func PublishTimeout(d time.Duration) BusOption {
	return busOption(func(c *busConfig) error { return positive("PublishTimeout", d, &c.publishTimeout) })
}

// patience is how long the publishes of a bus wait.
type patience struct {
	limit time.Duration
	last  atomic.Pointer[stretch]
}

// stretch is a ctx that bounds all publishes begun in a short time with one ctx, which most are: a
// timer for each would be much of what they cost.
type stretch struct {
	of     <-chan struct{} // the caller's ctx ends with it
	ctx    context.Context // nil if it has been asked for once
	stop   context.CancelFunc
	closes time.Time // no more are begun with it
}

// begin returns a ctx that ends when parent does, or after the limit, or a little later. stop may be nil.
func (p *patience) begin(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	done, last := parent.Done(), p.last.Load()
	if last == nil || last.of != done {
		p.last.Store(&stretch{of: done})
		return context.WithTimeout(parent, p.limit)
	}
	now := time.Now()
	if last.ctx != nil && now.Before(last.closes) {
		return last.ctx, nil
	}
	length := min(p.limit/16, time.Second)
	next := &stretch{of: done, closes: now.Add(length)}
	next.ctx, next.stop = context.WithDeadline(parent, next.closes.Add(p.limit)) // ends with its time, or the bus
	p.last.Store(next)
	return next.ctx, nil
}

// end releases what the last publishes left.
func (p *patience) end() {
	if last := p.last.Swap(nil); last != nil && last.stop != nil {
		last.stop()
	}
}

// limited is the ctx of a publish. It has no timer before somebody asks for it, as who publishes in
// process never does.
type limited struct {
	context.Context
	patience *patience // nil: ctx has a deadline of its own

	once  sync.Once
	begun atomic.Bool
	ctx   context.Context
	stop  context.CancelFunc
}

func (l *limited) set(ctx context.Context, p *patience) {
	l.Context = ctx
	if _, ok := ctx.Deadline(); !ok {
		l.patience = p
	}
}

func (l *limited) real() context.Context {
	if l.patience == nil {
		return l.Context
	}
	l.once.Do(func() {
		l.ctx, l.stop = l.patience.begin(l.Context)
		l.begun.Store(true)
	})
	return l.ctx
}

// end is for when the publish is over.
func (l *limited) end() {
	if l.patience != nil && l.begun.Load() && l.stop != nil {
		l.stop()
	}
}

func (l *limited) Deadline() (time.Time, bool) { return l.real().Deadline() }
func (l *limited) Done() <-chan struct{}       { return l.real().Done() }

func (l *limited) Err() error {
	if !l.begun.Load() {
		return l.Context.Err()
	}
	err := l.ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) && l.Context.Err() == nil {
		return &timeoutError{l.patience.limit}
	}
	return err
}

// AfterFunc lets package context do without a goroutine for what is derived from l.
func (l *limited) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(l.real(), f) }

// timeoutError says which limit it was.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("not done within %v, the PublishTimeout of a ctx without a deadline", e.limit)
}

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e *timeoutError) Timeout() bool        { return true }
