package patterns

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrShutdown is the cause with which a handler's ctx ends when it has
	// not finished by the drain timeout.
	ErrShutdown = errors.New("motif: shutting down")

	// ErrAbandoned: a subscription ended while handlers (or an OnDrop) were still
	// running, for they ignored the end of their ctx, or while replies were still to be
	// confirmed. The handlers' messages went back to the queue.
	ErrAbandoned = errors.New("motif: handlers still running")

	// ErrRejected, ErrRequeued and ErrSkipped are what [Reject], [Requeue] and [Skip] make of an
	// error, for middleware that asks with errors.Is what a handler decided.
	ErrRejected = errors.New("motif: rejected")
	ErrRequeued = errors.New("motif: requeued")
	ErrSkipped  = errors.New("motif: skipped")
)

// Reject returns an error that sends the message to the dead letters now,
// with err as the reason: trying again would not help.
func Reject(err error) error {
	if err == nil {
		err = errors.New("rejected")
	}
	return &rejectError{err}
}

type rejectError struct{ err error }

func (e *rejectError) Error() string { return e.err.Error() }
func (e *rejectError) Unwrap() error { return e.err }

func (e *rejectError) Is(target error) bool { return target == ErrRejected }

// RetryAfter returns an error that has the message tried again after d,
// rather than when the retry policy says. It counts as an attempt like any
// other failure, so that the policy's limit holds. With d <= 0 it is tried
// again at once.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("retry")
	}
	return &retryError{max(d, 0), err}
}

type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// Requeue returns an error that puts the message back to its place in the queue, for another worker
// or another time; it is not counted as an attempt. The worker first holds the message for as long
// as the retry policy would have it wait, longer each time it comes back to the same subscription,
// a minute at most. Meanwhile the worker handles nothing else. [RetryAfter] lets other messages
// pass, and is counted.
func Requeue(err error) error { return requeueAfter(-1, err) }

// RequeueAfter is [Requeue] with a pause of d, a minute at most. With d <= 0 the message comes back
// at once, unless something else delays it, such as a [Gate].
func RequeueAfter(d time.Duration, err error) error { return requeueAfter(max(d, 0), err) }

// RequeueLast is [RequeueAfter] with no pause, but the message goes to the end of its queue, so
// that all others pass it. With [OrderBy], in a private subscription, and where it cannot be sent,
// it goes to its place.
func RequeueLast(err error) error {
	last := requeueAfter(0, err)
	last.last = true
	return last
}

func requeueAfter(d time.Duration, err error) *requeueError {
	if err == nil {
		err = errors.New("requeued")
	}
	return &requeueError{after: d, err: err}
}

type requeueError struct {
	after time.Duration // < 0: as the retry policy says
	err   error
	last  bool // at the end of the queue
}

func (e *requeueError) Error() string { return e.err.Error() }
func (e *requeueError) Unwrap() error { return e.err }

func (e *requeueError) Is(target error) bool { return target == ErrRequeued }

// Skip returns an error that acknowledges the message although its handler did nothing with it.
// The reason is logged at level Info, and the message is counted in [Stats].
func Skip(reason error) error {
	if reason == nil {
		reason = errors.New("skipped")
	}
	return &skipError{reason}
}

type skipError struct{ err error }

func (e *skipError) Error() string { return e.err.Error() }
func (e *skipError) Unwrap() error { return e.err }

func (e *skipError) Is(target error) bool { return target == ErrSkipped }

// Classify says in one place what errors mean. f is given what the handler (or its middleware, or
// the decoder, see [ErrCodec]) returned, or a [*PanicError], and what it returns counts instead:
// the error as it is, or wrapped by [Reject], [RetryAfter], [Requeue] or [Skip], or nil to
// acknowledge. f also sees the errors that a handler has wrapped by these itself. It is called by
// several workers at a time.
//
// It is not asked about the errors of handlers that a shutdown or a lost session interrupts.
func Classify(f func(err error) error) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if f == nil {
			return invalid("Classify with nil")
		}
		if c.classify != nil {
			return givenTwice("Classify")
		}
		c.classify = f
		return nil
	}}
}

// PanicError is what a handler's panic becomes; it is retried like any other
// error.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("handler called runtime.Goexit")
