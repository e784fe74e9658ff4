package patterns

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/motifmq/motif/adapters"
)

// settle decides, from what the handler returned, what becomes of the
// message. d.Message is as it was received. It reports whether the worker is to
// run the handler once more instead, and has waited for that.
func (w *worker) settle(d *adapters.Delivery, err error) (again bool) {
	s := w.s
	switch {
	case err == nil:
		if !s.cfg.ackOnReceive {
			w.tell(d, adapters.Ack)
		}
		return false
	case s.cfg.ackOnReceive:
		if err = s.classify(err); isA[*skipError](err) {
			w.skipped(d, err)
		} else if err != nil {
			w.drop(d, err)
		}
		return false
	case isA[*ackedError](err):
		defer w.tell(d, adapters.Ack) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
		return false
	case w.sessionLost() && s.queue == "":
		w.drop(d, err) // nobody else has it: a private queue is gone with its session
		return false
	case w.sessionLost():
		w.lost(d) // it is delivered again: neither a try nor a dead letter
		return false
	}
	decided := isA[*rejectError](err) || isA[*skipError](err)
	if !decided && s.stopping(err) {
		w.requeue(d)
		return false
	}
	switch err = s.classify(err); {
	case err == nil:
		w.tell(d, adapters.Ack)
	case isA[*skipError](err):
		w.skipped(d, err)
		w.tell(d, adapters.Ack)
	case isA[*rejectError](err):
		w.giveUp(d, err)
	case isA[*requeueError](err):
		return w.requeueLater(d, err)
	case d.Attempt >= s.cfg.retry.Attempts:
		w.giveUp(d, err)
	case !s.cfg.retry.InProcess:
		return w.retry(d, err)
	case errors.Is(err, errGoexit): // there is no goroutine left to run it in
		w.giveUp(d, err)
	default:
		return w.retryHere(d, err, s.retryWait(d.Attempt, err))
	}
	return false
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// sessionLost reports whether the session that delivered is gone. w.ctx hears of
// it a little later, and may have ended for another cause before.
func (w *worker) sessionLost() bool {
	cause := context.Cause(w.session)
	return errors.Is(cause, adapters.ErrSessionLost) || errors.Is(cause, adapters.ErrClosed)
}

// stopping reports whether err is a handler's answer to the end of its ctx, by
// shutdown, rather than a failure of its own. An error that came after that is
// taken for one whatever it says, and none before, or a handler that returns
// ErrShutdown for reasons of its own would have its message for ever again.
func (s *Subscription) stopping(err error) bool {
	return s.fetching.Err() != nil && errors.Is(err, ErrShutdown) || errors.Is(context.Cause(s.handling), ErrShutdown)
}

// skipped is for a message that its handler has no use for.
func (w *worker) skipped(d *adapters.Delivery, err error) {
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
	if as != nil && !sound(as) {
		return err
	}
	return as
}

// requeueLater gives the message back to its place, as its handler wants it, but not before a
// pause that grows: it would come again at once.
func (w *worker) requeueLater(d *adapters.Delivery, err error) (again bool) {
	wait := min(w.s.cfg.retry.wait(1+w.s.survivors.of(d.Message.UUID)), longestHold)
	w.warn(d, "back to its place, as its handler wants it", err, "in", wait)
	return w.requeueAfter(d, wait)
}

func (w *worker) requeue(d *adapters.Delivery) {
	w.s.bus.counters.requeued.Add(1)
	if d.Lost >= w.s.suspect() { // requeued it would be counted, and nobody was lost
		if w.s.fetching.Err() != nil {
			w.s.drain() // waits until nothing is fetched any more: the copy must not come here, to be given back
		}
		if w.s.resendToQueue(valuesOf(d), d, 0) == nil {
			w.s.survivors.forget(d.Message.UUID)
			w.tell(d, adapters.Ack)
			return
		}
	}
	w.s.survivors.note(d.Message.UUID)
	w.tell(d, adapters.Requeue)
}

// lost is for a message that went back to its queue while it was in hand. Settling it has no
// effect, but its error says whether the message itself was the reason.
func (w *worker) lost(d *adapters.Delivery) {
	err := d.Settle(w.s.settling, adapters.Requeue)
	if err == nil {
		err = adapters.ErrStaleDelivery
	}
	w.s.stale(d, err)
}

// tell settles the message. One that cannot be settled now would stay in hand,
// and its place in the prefetch be lost, so that it is tried until the session
// is lost or the handlers' time is up. It reports whether it was.
func (w *worker) tell(d *adapters.Delivery, o adapters.Outcome) bool { return w.s.tell(w.ctx, d, o) }

func (s *Subscription) tell(handling context.Context, d *adapters.Delivery, o adapters.Outcome) bool {
	err := d.Settle(s.settling, o)
	for wait := 10 * time.Millisecond; err != nil && !unsettleable(err); wait = min(2*wait, time.Second) {
		if sleep(handling, wait) != nil {
			break
		}
		err = d.Settle(s.settling, o)
	}
	if err != nil {
		s.stale(d, err)
	}
	return err == nil
}

// unsettleable tells that trying to settle again would not help.
func unsettleable(err error) bool {
	return errors.Is(err, adapters.ErrStaleDelivery) || errors.Is(err, adapters.ErrClosed) || errors.Is(err, adapters.ErrInvalid)
}

func (s *Subscription) stale(d *adapters.Delivery, err error) {
	if s.queue == "" {
		return // a private queue is gone with its session: there was nothing to settle
	}
	s.bus.counters.stale.Add(1)
	if errors.Is(err, adapters.ErrConsumerTimeout) {
		s.bus.counters.timedOut.Add(1)
	} else {
		s.survivors.note(d.Message.UUID)
	}
	s.log(slog.LevelWarn, d, "not settled, it will be delivered again", err)
}
