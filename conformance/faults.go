package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
)

// What cases do to the broker, and to those who wait for it.

// restart restarts the broker.
func (t *trial) restart() {
	t.log.Add(history.Event{Op: history.Crash})
	t.must(t.h.Restart(t.ctx), "restarting the broker")
}

// freeze makes the broker stand still, until the case's end at the latest.
func (t *trial) freeze() (thaw func()) { return t.hinder(t.h.Freeze, "freezing") }

// block makes the broker take no messages, until the case's end at the latest.
func (t *trial) block() (unblock func()) { return t.hinder(t.h.Block, "blocking") }

func (t *trial) hinder(hook func(context.Context) (func() error, error), what string) func() {
	undo, err := hook(t.soon())
	t.must(err, what+" the broker")
	undone := false
	t.atEnd(func(context.Context) error {
		if undone {
			return nil
		}
		return undo()
	})
	return func() {
		undone = true
		t.must(undo(), "no longer "+what+" the broker")
	}
}

// within runs f, whose ctx ends after d. The case fails if it does not come
// back; if it comes back late the history says so.
func (t *trial) within(d time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.ctx, d)
	defer cancel()
	back := make(chan error, 1)
	t.spawn(func() { back <- f(ctx) })
	return wait(t, back, what+" comes back after the end of its ctx")
}

// gaveUp checks what is returned by a publish whose ctx ended.
func (t *trial) gaveUp(err error, what string) {
	t.is(err, context.DeadlineExceeded, what)
	if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrUnavailable) {
		t.errorf("%s: the error is %v, neither ErrUnconfirmed nor ErrUnavailable", what, err)
	}
}

// publishAgain publishes a message after a fault, as often as it takes within the
// patience of a case. What is tried again is another message, for the first one
// may have been stored.
func (t *trial) publishAgain(d adapters.Driver, p adapters.Publication, id string) (last string) {
	passing := []error{adapters.ErrUnconfirmed, adapters.ErrUnavailable, adapters.ErrUnroutable, adapters.ErrNacked}
	until := time.Now().Add(patience)
	for i := 1; ; i++ {
		last = fmt.Sprintf("%s-%d", id, i)
		err := d.Publish(t.soon(), p, text(last)...)
		if err == nil {
			return last
		}
		if time.Now().After(until) || !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
			t.fatalf("publishing after the fault, attempt %d: %v", i, err)
		}
		t.pass(100 * time.Millisecond)
	}
}

// pass lets time pass, where time is what the rule is about.
func (t *trial) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
		t.fatalf("the case's time is over")
	}
}

// purged says that what was sent to s so far may be gone, with nobody to blame.
func (t *trial) purged(s adapters.Source) {
	t.log.Add(history.Event{Op: history.Purged, Queue: s.QueueName()})
}
