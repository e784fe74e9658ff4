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
// between: Min before the second attempt, twice as long before each further one,
// Max at most, and up to a tenth more so that what failed together does not
// return together. The zero value is the default: 5 attempts, from 1 s, at most 5 min.
type RetryPolicy struct {
	Attempts int           // most attempts, the first one included; 0 = 5, 1 = no retry
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
		switch {
		case p.Attempts < 0 || p.Min < 0 || p.Max < 0:
			return invalid("RetryPolicy with a negative value: Attempts %d, Min %v, Max %v", p.Attempts, p.Min, p.Max)
		case p.Max > 0 && p.Max < p.Min:
			return invalid("RetryPolicy with Max %v, which is less than Min %v", p.Max, p.Min)
		}
		return setOnce("the retry policy (Retry, NoRetry)", &c.retry, p.withDefaults())
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

// backoff returns how long to wait after an attempt failed, counted from 1.
func (p RetryPolicy) backoff(attempt int) time.Duration {
	d := p.Max
	if shift := max(attempt-1, 0); p.Min <= p.Max>>shift {
		d = p.Min << shift
	}
	return d + min(rand.N(d/10+1), math.MaxInt64-d)
}

// waits returns how long all waits of a message can take together.
func (p RetryPolicy) waits() (sum time.Duration) {
	left := p.Attempts - 1
	for wait := p.Min; left > 0 && wait < p.Max; left-- {
		sum, wait = saturated(wait, 1, sum), saturated(wait, 2, 0)
	}
	sum = saturated(p.Max, max(left, 0), sum)
	return saturated(sum, 1, sum/10)
}

const (
	// resendPause comes before a message goes back to its queue that could not be sent on.
	resendPause = time.Second

	// maxHold is how long a worker holds a message at a time for a wait that is the broker's
	// otherwise: a broker takes back what is held for too long.
	maxHold = time.Minute
)

// pause waits for d, unless the subscription is being stopped or the session
// is lost.
func (w *worker) pause(d time.Duration) error {
	w.stepAside()
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

func (s *Subscription) retryDelay(attempt int, err error) time.Duration {
	wait := s.cfg.retry.backoff(attempt)
	if after, ok := errors.AsType[*retryError](err); ok {
		wait = after.after
	}
	return wait
}

// retry sends the message to its queue again, to wait there, and then
// acknowledges this delivery of it. If the process dies in between there are two. The worker may go
// on before: see pendingRetry.
//
// A message that cannot be sent has not had its last attempt. After a failure that may pass it goes
// back to its queue; where sending again would not help the worker itself waits for the next
// attempt.
func (w *worker) retry(d *adapters.Delivery, err error) (again bool) {
	s := w.s
	wait := s.retryDelay(d.Attempt, err)
	pending, sendErr := w.sendRetry(d, err, wait)
	switch {
	case pending:
		w.warn(d, "trying again", err, "in", wait)
		return false
	case sendErr == nil:
		s.noteRetried(d)
		w.warn(d, "trying again", err, "in", wait)
		w.finishIn(d, adapters.Ack, ResultRetried, err, wait)
		return false
	case isMessageFault(sendErr) && s.deadLetter != "":
		w.giveUp(d, err)
		return false
	case isTransient(sendErr), errors.Is(err, errGoexit): // the latter leaves no goroutine to try again in
		w.sendFailed(d, sendErr)
		return false
	}
	// Requeued, it would come again with its attempts uncounted.
	return w.retryInProcess(d, err, min(wait, maxHold), "because", sendErr.Error())
}

// remainingDelay returns how long a message has still to wait that the broker could not delay for
// as long as its retry asked.
func remainingDelay(d *adapters.Delivery) time.Duration {
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

// errDelayCutShort is why a message is requeued with the rest of its delay.
var errDelayCutShort = errors.New("the broker cut a delay short: is there a policy for its queues?")

// cutShortPause keeps the message from spinning where the broker cuts each delay very short.
const cutShortPause = 10 * time.Millisecond

// continueDelay sends a message that came too early back to wait for the rest of its delay.
func (w *worker) continueDelay(d *adapters.Delivery, wait time.Duration) {
	var why error
	if d.Early > 0 {
		why = errDelayCutShort
		w.warn(d, "it came before its time and waits again", errDelayCutShort, "for", wait)
		_ = w.pause(cutShortPause)
	}
	if err := w.s.resendDelayed(d, d.Attempt, wait); err != nil {
		w.sendFailed(d, err)
		return
	}
	w.finish(d, adapters.Ack, ResultRequeued, why)
}

// retryInProcess has the worker itself wait for the next attempt, and reports whether there is to
// be one.
func (w *worker) retryInProcess(d *adapters.Delivery, err error, wait time.Duration, more ...any) (again bool) {
	w.s.bus.counters.retried.Add(1)
	w.warn(d, "trying again in process", err, append([]any{"in", wait}, more...)...)
	next := *d
	if next.Attempt++; w.park(&next, wait) {
		w.settled(d, ResultRetried, err, wait)
		return false
	}
	stopped, mine := w.hold(d, wait)
	if mine && stopped != nil {
		return w.decide(d, stopped)
	}
	if mine {
		tried := *d // were d captured, every delivery would be on the heap
		apart(func() { w.settled(&tried, ResultRetried, err, wait) })
	}
	return mine
}

// hold keeps the message in hand for a time. It returns why that was cut short, and whether the
// message is still the worker's to settle.
func (w *worker) hold(d *adapters.Delivery, wait time.Duration) (stopped error, mine bool) {
	w.track(d, d.Message)
	stopped = w.pause(wait)
	return stopped, w.untrack()
}

// requeueAfter holds the message for a time and then gives it back, or keeps its place.
func (w *worker) requeueAfter(d *adapters.Delivery, err error, wait time.Duration) (again bool) {
	if w.keepPlace(d, err, wait) {
		return false
	}
	switch stopped, mine := w.hold(d, wait); {
	case !mine:
		return false
	case stopped != nil:
		return w.decide(d, stopped)
	}
	w.requeue(d, err)
	return false
}

// keepPlace has a message that is to go back to its queue come again at its place, and reports
// whether it does: in the queue, those behind it would pass it.
func (w *worker) keepPlace(d *adapters.Delivery, err error, wait time.Duration) bool {
	it, ok := d.Settler.(*orderedItem)
	if !ok || w.s.cfg.overtake {
		return false
	}
	it.parks++
	w.s.bus.counters.requeued.Add(1)
	w.park(d, wait)
	w.settled(d, ResultRequeued, err, 0)
	return true
}
