package patterns

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/motifmq/motif/adapters"
)

// decide decides, from what the handler returned, what becomes of the message: acknowledged,
// retried (see retry.go), requeued or given up. d.Message is as it was received. It reports
// whether the worker is to run the handler once more instead, and has waited for that.
func (w *worker) decide(d *adapters.Delivery, err error) (again bool) {
	s := w.s
	switch {
	case s.cfg.ackOnReceive:
		w.decideAcknowledged(d, err)
		return false
	case err == nil:
		w.finish(d, adapters.Ack, ResultAcknowledged, nil)
		return false
	case isA[*ackedError](err):
		defer w.finish(d, adapters.Ack, ResultDropped, err) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
		return false
	case w.sessionLost() && s.queue == "":
		defer w.settled(d, ResultDropped, err, 0)
		w.drop(d, err) // nobody else has it: a private queue is gone with its session
		return false
	case w.sessionLost():
		w.settleLost(d) // it is delivered again: neither an attempt nor a dead letter
		return false
	}
	decided := isA[*rejectError](err) || isA[*skipError](err)
	if !decided && s.isShutdown(err) {
		w.requeue(d, err)
		return false
	}
	switch err = s.classify(err); {
	case err == nil:
		w.finish(d, adapters.Ack, ResultAcknowledged, nil)
	case isA[*skipError](err):
		w.noteSkipped(d, err)
		w.finish(d, adapters.Ack, ResultSkipped, err)
	case isA[*rejectError](err):
		w.giveUp(d, err)
	case isA[*requeueError](err):
		return w.requeueLater(d, err)
	case d.Attempt >= s.cfg.retry.Attempts:
		w.giveUp(d, err)
	case !s.cfg.retry.InProcess:
		return w.retry(d, err)
	case errors.Is(err, errGoexit) && s.order == nil: // there is no goroutine left to run it in
		w.giveUp(d, err)
	default:
		return w.retryInProcess(d, err, s.retryDelay(d.Attempt, err))
	}
	return false
}

// decideAcknowledged is decide for a message that was acknowledged on receipt.
func (w *worker) decideAcknowledged(d *adapters.Delivery, err error) {
	if err != nil {
		err = w.s.classify(err)
	}
	switch {
	case err == nil:
		w.settled(d, ResultAcknowledged, nil, 0)
	case isA[*skipError](err):
		w.noteSkipped(d, err)
		w.settled(d, ResultSkipped, err, 0)
	default:
		defer w.settled(d, ResultDropped, err, 0) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
	}
}

// sessionLost reports whether the session that delivered is gone. w.ctx hears of
// it a little later, and may have ended for another cause before.
func (w *worker) sessionLost() bool {
	cause := context.Cause(w.session)
	return errors.Is(cause, adapters.ErrSessionLost) || errors.Is(cause, adapters.ErrClosed)
}

// isShutdown reports whether err is how a handler ended when its ctx did, by
// shutdown, rather than a failure of its own. An error that came after that is
// taken for one whatever it says, and none before, or a handler that returns
// ErrShutdown for reasons of its own would have its message again without end.
func (s *Subscription) isShutdown(err error) bool {
	return s.fetching.Err() != nil && errors.Is(err, ErrShutdown) || errors.Is(context.Cause(s.handling), ErrShutdown)
}

// noteSkipped is for a message that its handler has no use for.
func (w *worker) noteSkipped(d *adapters.Delivery, err error) {
	w.s.bus.counters.skipped.Add(1)
	w.s.log(slog.LevelInfo, d, "skipped", err)
}

// classify returns what the subscription's [Classify] makes of an error.
func (s *Subscription) classify(err error) (as error) {
	if s.cfg.classify == nil {
		return err
	}
	defer func() {
		if v := recover(); v != nil {
			as = errors.Join(err, &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	as = s.cfg.classify(err)
	if as != nil && !isInspectable(as) {
		return err
	}
	return as
}

// requeueLater gives the message back to its place, as its handler wants it, but not before a
// pause that grows: it would come again at once.
func (w *worker) requeueLater(d *adapters.Delivery, err error) (again bool) {
	before := w.s.knownReturns.count(d.Message.UUID)
	if it, ok := d.Settler.(*orderedItem); ok {
		before += int(it.parks)
	}
	wait := w.s.cfg.retry.backoff(1 + before)
	asked, ok := errors.AsType[*requeueError](err)
	if ok && asked.last && w.s.order == nil && w.s.queue != "" && w.sendToEnd(d, err) {
		w.s.bus.counters.requeued.Add(1)
		return false
	}
	if ok && asked.after >= 0 {
		wait = asked.after
	}
	wait = min(wait, maxHold)
	w.warn(d, "back to its place, as its handler wants it", err, "in", wait)
	return w.requeueAfter(d, err, wait)
}

// requeue gives the message back to its queue, for err.
func (w *worker) requeue(d *adapters.Delivery, err error) {
	w.s.bus.counters.requeued.Add(1)
	if d.Lost >= w.s.suspectLimit() && w.s.order == nil { // requeued it would be counted, and nobody was lost
		if w.s.fetching.Err() != nil {
			w.s.drain() // waits until nothing is fetched any more: the copy must not come here, to be given back
		}
		if w.sendToEnd(d, err) {
			return
		}
	}
	w.s.knownReturns.note(d.Message.UUID)
	w.finish(d, adapters.Requeue, ResultRequeued, err)
}

// sendToEnd sends the message to the end of its queue, for err, and reports whether it is there.
func (w *worker) sendToEnd(d *adapters.Delivery, err error) bool {
	if w.s.resendToQueue(detachedContext(d), d, 0) != nil {
		return false
	}
	w.s.knownReturns.forget(d.Message.UUID)
	w.finish(d, adapters.Ack, ResultRequeued, err)
	return true
}

// settleLost is for a message that went back to its queue while it was in hand. Settling it has no
// effect, but its error says whether the message itself was the reason.
func (w *worker) settleLost(d *adapters.Delivery) {
	err := d.Settle(w.s.settling, adapters.Requeue)
	if err == nil {
		err = adapters.ErrStaleDelivery
	}
	w.settled(d, ResultStale, w.s.noteStale(d, err), 0)
}

// settle tells the broker what becomes of the message. One that cannot be settled now would stay in
// hand, and its place in the prefetch be lost, so that it is tried until the session is lost or the
// handlers' time is up. A nil error means that it was settled, or that there is nothing to settle
// any more.
func (w *worker) settle(d *adapters.Delivery, o adapters.Outcome) error {
	if o == adapters.Ack && w.s.gatherer != nil && w.inRun() {
		if run, ok := d.Settler.(adapters.RunSettler); ok && run.AckInRun(w.s.settling) == nil {
			return nil
		}
	}
	return w.s.settle(w.ctx, d, o)
}

func (s *Subscription) settle(handling context.Context, d *adapters.Delivery, o adapters.Outcome) error {
	err := d.Settle(s.settling, o)
	if errors.Is(err, adapters.ErrAccess) {
		s.log(slog.LevelWarn, d, "not settled, it stays in hand until an operator allows it", err)
	}
	for wait := 10 * time.Millisecond; err != nil && !unsettleable(err); wait = min(2*wait, time.Second) {
		if sleep(handling, wait) != nil {
			break
		}
		err = d.Settle(s.settling, o)
	}
	if err != nil {
		return s.noteStale(d, err)
	}
	return nil
}

// unsettleable reports whether trying to settle again would not help. ErrAccess, which an operator
// can mend, wraps ErrInvalid.
func unsettleable(err error) bool {
	return errors.Is(err, adapters.ErrStaleDelivery) || errors.Is(err, adapters.ErrClosed) ||
		errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrAccess)
}

// noteStale notes that a message was not settled, for err, which it returns.
func (s *Subscription) noteStale(d *adapters.Delivery, err error) error {
	if s.queue == "" {
		return nil // a private queue is gone with its session: there was nothing to settle
	}
	s.bus.counters.stale.Add(1)
	if errors.Is(err, adapters.ErrConsumerTimeout) {
		s.bus.counters.timedOut.Add(1)
	} else {
		s.knownReturns.note(d.Message.UUID)
	}
	s.log(slog.LevelWarn, d, "not settled, it will be delivered again", err)
	return err
}

// finish settles the message and reports its result, which err is the reason for.
func (w *worker) finish(d *adapters.Delivery, o adapters.Outcome, r Result, err error) {
	w.finishIn(d, o, r, err, 0)
}

func (w *worker) finishIn(d *adapters.Delivery, o adapters.Outcome, r Result, err error, retryIn time.Duration) {
	if stale := w.settle(d, o); stale != nil {
		r, err, retryIn = ResultStale, stale, 0
	}
	w.settled(d, r, err, retryIn)
}
