package kit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

// Tasks are the goroutines of a driver. Close begins with [Tasks.Close], so that no new ones start,
// and ends with [Tasks.Wait]. The methods may be called concurrently.
type Tasks struct {
	mu     sync.Mutex
	isOver bool
	over   chan struct{} // closed with isOver
	wg     sync.WaitGroup
}

// NewTasks returns Tasks that are not closed.
func NewTasks() *Tasks { return &Tasks{over: make(chan struct{})} }

// Go runs f in a goroutine, or returns false if the tasks are closed.
func (t *Tasks) Go(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isOver {
		return false
	}
	t.wg.Go(f)
	return true
}

// Close lets no more goroutines start, and ends the wait of every [Call]. It does not wait for
// those that run. It reports whether it was the first call.
func (t *Tasks) Close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isOver {
		return false
	}
	t.isOver = true
	close(t.over)
	return true
}

// Closed returns a channel that is closed by [Tasks.Close].
func (t *Tasks) Closed() <-chan struct{} { return t.over }

// IsClosed reports whether [Tasks.Close] was called.
func (t *Tasks) IsClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.isOver
}

// Check returns an error if no operation may begin: because t is closed, or ctx has ended. what
// says which operation, in an error that wraps ctx's.
func (t *Tasks) Check(ctx context.Context, what string) error {
	if t.IsClosed() {
		return adapters.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Explain gives the error of an operation the reason why it ended early, if it did:
// [adapters.ErrClosed] in its place, or ctx's error with it.
func (t *Tasks) Explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case t.IsClosed():
		return adapters.ErrClosed
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w (%w)", err, ctx.Err())
	}
	return err
}

// Wait waits for the goroutines that run. It must not be called before [Tasks.Close].
func (t *Tasks) Wait() { t.wg.Wait() }

// Call runs f, which takes no context, in a goroutine of t, and returns its results. When ctx ends
// or t is closed first, Call returns ctx's error or [adapters.ErrClosed], and f goes on; what f
// then returns without an error is given to undo, in f's goroutine. So each result of f is either
// returned or undone.
func Call[T any](ctx context.Context, t *Tasks, f func() (T, error), undo func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var decided atomic.Bool // who sets it decides whether the result is returned or undone
	done := make(chan result, 1)
	started := t.Go(func() {
		v, err := f()
		done <- result{v, err}
		if err == nil && !decided.CompareAndSwap(false, true) {
			undo(v)
		}
	})
	var zero T
	if !started {
		return zero, adapters.ErrClosed
	}
	var why error
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		why = ctx.Err()
	case <-t.over:
		why = adapters.ErrClosed
	}
	if decided.CompareAndSwap(false, true) {
		return zero, why
	}
	r := <-done // just in time
	return r.v, r.err
}
