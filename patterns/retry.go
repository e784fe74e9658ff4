package patterns

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/motifmq/motif/adapters"
)

// RetryPolicy says how often a message is tried, and how long it waits in
// between: Min before the second try, twice as long before each further one,
// Max at most, and up to a tenth more so that what failed together does not
// return together. The zero value is the default: 5 tries, from 1 s, at most 5 min.
type RetryPolicy struct {
	Attempts int           // most tries, the first one included; 0 = 5, 1 = no retry
	Min      time.Duration // 0 = 1 s
	Max      time.Duration // 0 = 5 min, or 16 times Min if that is longer

	// InProcess makes the worker itself wait, holding the message, in place of
	// the broker: for adapters that cannot delay. Attempts are then forgotten
	// when the process ends. Private subscriptions always do so.
	InProcess bool
}

// Retry sets the retry policy of a subscription.
func Retry(p RetryPolicy) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if p.Attempts < 0 || p.Min < 0 || p.Max < 0 || p.Max > 0 && p.Max < p.Min {
			return invalid("retry policy %+v", p)
		}
		return once("the retry policy (Retry, NoRetry)", &c.retry, p.withDefaults())
	}}
}

// NoRetry gives a message up when its handler fails once.
func NoRetry() FailureOption { return Retry(RetryPolicy{Attempts: 1}) }

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 5
	}
	if p.Min == 0 {
		p.Min = time.Second
	}
	if p.Max == 0 {
		p.Max = max(5*time.Minute, saturated(p.Min, 16, 0))
	}
	return p
}

// wait is how long to wait after the attempt-th try failed.
func (p RetryPolicy) wait(attempt int) time.Duration {
	d := p.Max
	if shift := max(attempt-1, 0); p.Min <= p.Max>>shift {
		d = p.Min << shift
	}
	return d + min(rand.N(d/10+1), math.MaxInt64-d)
}

const (
	// failedPause comes before a message goes back to its queue that could not be sent on.
	failedPause = time.Second

	// longestHold is how long a worker holds a message at a time for a wait that is the broker's
	// otherwise: a broker takes back what is held for too long.
	longestHold = time.Minute
)

// pause waits for d, unless the subscription is being stopped or the session
// is lost.
func (w *worker) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.s.fetching.Done():
		return ErrShutdown
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

func (s *Subscription) retryWait(attempt int, err error) time.Duration {
	wait := s.cfg.retry.wait(attempt)
	if after, ok := errors.AsType[*retryError](err); ok {
		wait = after.after
	}
	return wait
}

// retry sends the message to its queue again, to wait there, and then
// acknowledges this delivery of it. If the process dies in between there are two.
//
// A message that cannot be sent has not had its last try. What passes lets it go back to its
// queue; where trying to send it again would not help the worker itself waits for the next try.
func (w *worker) retry(d *adapters.Delivery, err error) (again bool) {
	s := w.s
	wait := s.retryWait(d.Attempt, err)
	sendErr := s.sendAgain(d, d.Attempt+1, wait)
	switch {
	case sendErr == nil:
		s.bus.counters.retried.Add(1)
		s.survivors.forget(d.Message.UUID)
		w.warn(d, "trying again", err, "in", wait)
		w.finishIn(d, adapters.Ack, ResultRetried, err, wait)
		return false
	case ownFault(sendErr) && s.deadLetter != "":
		w.giveUp(d, err)
		return false
	case passes(sendErr), errors.Is(err, errGoexit): // the latter leaves no goroutine to try again in
		w.sendFailed(d, sendErr)
		return false
	case wait > longestHold:
		w.warn(d, "its next try could not be sent to the queue: back there after a while", sendErr, "in", longestHold)
		return w.requeueAfter(d, sendErr, longestHold)
	}
	return w.retryHere(d, err, wait, "because", sendErr.Error())
}

// early returns how long a message has still to wait that came before its time, for the broker
// could not delay it for so long.
func early(d *adapters.Delivery) time.Duration {
	if d.Attempt <= 1 {
		return 0
	}
	text, ok := d.Message.Metadata[HeaderNotBefore]
	if !ok {
		return 0
	}
	delete(d.Message.Metadata, HeaderNotBefore)
	until, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return max(time.Until(until), 0)
}

// errEarly is why a message waits again.
var errEarly = errors.New("the broker cut a delay short: is there a policy for its queues?")

// earlyPause is for a broker that cuts each wait very short.
const earlyPause = 10 * time.Millisecond

// waitOn has a message wait on that came before its time.
func (w *worker) waitOn(d *adapters.Delivery, wait time.Duration) {
	var early error
	if d.Early > 0 {
		early = errEarly
		w.warn(d, "it came before its time and waits again", errEarly, "for", wait)
		_ = w.pause(earlyPause)
	}
	if err := w.s.sendAgain(d, d.Attempt, wait); err != nil {
		w.sendFailed(d, err)
		return
	}
	w.finish(d, adapters.Ack, ResultRequeued, early)
}

// retryHere has the worker itself wait for the next try, and reports whether there is to be one.
func (w *worker) retryHere(d *adapters.Delivery, err error, wait time.Duration, more ...any) (again bool) {
	w.s.bus.counters.retried.Add(1)
	w.warn(d, "trying again in process", err, append([]any{"in", wait}, more...)...)
	stopped, mine := w.hold(d, wait)
	if mine && stopped != nil {
		return w.decide(d, stopped)
	}
	if mine {
		w.settled(d, ResultRetried, err, wait)
	}
	return mine
}

// hold keeps the message in hand for a time. It returns why that was cut short, and whether the
// message is still the worker's to settle.
func (w *worker) hold(d *adapters.Delivery, wait time.Duration) (stopped error, mine bool) {
	w.take(d)
	stopped = w.pause(wait)
	return stopped, w.leave()
}

// requeueAfter holds the message for a time and then gives it back.
func (w *worker) requeueAfter(d *adapters.Delivery, err error, wait time.Duration) (again bool) {
	switch stopped, mine := w.hold(d, wait); {
	case !mine:
		return false
	case stopped != nil:
		return w.decide(d, stopped)
	}
	w.requeue(d, err)
	return false
}
