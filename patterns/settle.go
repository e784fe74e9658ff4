package patterns

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/motifmq/motif/adapters"
)

// failedPause comes before a message is requeued that could not be sent on.
const failedPause = time.Second

// settle decides, from what the handler returned, what becomes of the
// message. d.Message is as it was received.
func (w *worker) settle(d *adapters.Delivery, err error) {
	s := w.s
	switch {
	case s.cfg.ackOnReceive:
		if err != nil {
			w.drop(d, err)
		}
	case err == nil:
		w.tell(d, adapters.Ack)
	case isA[*ackedError](err):
		defer w.tell(d, adapters.Ack) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
	case w.sessionLost() && s.queue == "":
		w.drop(d, err) // nobody else has it: a private queue is gone with its session
	case w.sessionLost():
		w.lost(d) // it is delivered again: neither a try nor a dead letter
	case isA[*rejectError](err):
		w.giveUp(d, err)
	case s.stopping(err):
		w.requeue(d)
	case s.cfg.retry.InProcess || d.Attempt >= s.cfg.retry.Attempts:
		w.giveUp(d, err)
	default:
		w.retry(d, err)
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// sessionLost tells whether the session that delivered is gone. w.ctx hears of
// it a little later, and may have ended for another cause before.
func (w *worker) sessionLost() bool {
	cause := context.Cause(w.session)
	return errors.Is(cause, adapters.ErrSessionLost) || errors.Is(cause, adapters.ErrClosed)
}

// stopping tells whether err is a handler's answer to the end of its ctx, by
// shutdown, rather than a failure of its own. An error that came after that is
// taken for one whatever it says, and none before, or a handler that returns
// ErrShutdown for reasons of its own would have its message for ever again.
func (s *Subscription) stopping(err error) bool {
	return s.fetching.Err() != nil && errors.Is(err, ErrShutdown) || errors.Is(context.Cause(s.handling), ErrShutdown)
}

// retryHere tells how long the worker itself is to wait before the next try,
// and whether there is to be one.
func (w *worker) retryHere(d *adapters.Delivery, err error) (time.Duration, bool) {
	s := w.s
	switch {
	case err == nil, !s.cfg.retry.InProcess, s.cfg.ackOnReceive, d.Attempt >= s.cfg.retry.Attempts:
		return 0, false
	case isA[*ackedError](err), isA[*rejectError](err), w.ctx.Err() != nil:
		return 0, false
	}
	s.bus.counters.retried.Add(1)
	wait := s.retryWait(d.Attempt, err)
	s.warn(d, "trying again in process", err, "in", wait)
	return wait, true
}

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
	if limit := s.bus.features.MaxDelay; limit > 0 && !s.cfg.retry.InProcess {
		wait = min(wait, limit)
	}
	return wait
}

// retry sends the message to its queue again, to wait there, and then
// acknowledges this delivery of it. If the process dies in between there are two.
func (w *worker) retry(d *adapters.Delivery, err error) {
	s := w.s
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: s.queue}, Key: d.Key, Properties: d.Properties,
		Delay: s.retryWait(d.Attempt, err),
	}
	p.Attempt++
	p.Mandatory = p.Delay == 0 && s.bus.features.Ability.Has(adapters.CanReturn)
	if sendErr := s.bus.resend(s.settling, p, d.Message); sendErr != nil {
		if unsendable(sendErr) {
			w.giveUp(d, err)
		} else {
			w.sendFailed(d, sendErr)
		}
		return
	}
	s.bus.counters.retried.Add(1)
	s.survivors.forget(d.Message.UUID)
	s.warn(d, "trying again", err, "in", p.Delay)
	w.tell(d, adapters.Ack)
}

// giveUp sends the message to the dead letters and acknowledges it, or drops
// it where there are none.
func (w *worker) giveUp(d *adapters.Delivery, err error) {
	s := w.s
	if s.deadLetter == "" {
		defer w.tell(d, adapters.Reject) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
		return
	}
	if sendErr := s.bus.bury(s.settling, d, s.queue, s.deadLetter, s.cfg.retry.Max, err); sendErr != nil {
		if unsendable(sendErr) && s.brokerBuries {
			s.bus.counters.deadLettered.Add(1)
			s.warn(d, "given up, to the dead letters as it came", err, "because", sendErr.Error())
			w.tell(d, adapters.Reject)
		} else {
			w.sendFailed(d, sendErr)
		}
		return
	}
	if s.deadLetter == s.queue {
		s.warn(d, "dead letter not repaired, it comes again", err)
	} else {
		s.bus.counters.deadLettered.Add(1)
		s.warn(d, "given up, to the dead letters", err, "dead_letter", s.deadLetter)
	}
	w.tell(d, adapters.Ack)
}

// unsendable tells of a message that came from somebody else, with properties
// or of a size that this side may not send: to try that again would not help.
func unsendable(err error) bool {
	return errors.Is(err, adapters.ErrInvalid) || errors.Is(err, adapters.ErrTooLarge)
}

// sendFailed gives the message back, after a pause: what cannot be sent on
// now would fail at once again.
func (w *worker) sendFailed(d *adapters.Delivery, err error) {
	w.s.warn(d, "a failed message could not be sent on, back to the queue", err)
	_ = w.pause(failedPause) // cut short by a shutdown, which is as good a time
	w.requeue(d)
}

func (w *worker) requeue(d *adapters.Delivery) {
	w.s.bus.counters.requeued.Add(1)
	if d.Lost >= w.s.suspect() { // requeued it would be counted, and nobody was lost
		if w.s.fetching.Err() != nil {
			w.s.drain() // waits until nothing is fetched any more: the copy must not come here, to be given back
		}
		if w.s.resendToQueue(w.s.settling, d, 0) == nil {
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
// is lost or the handlers' time is up. It tells whether it was.
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
	s.warn(d, "not settled, it will be delivered again", err)
}

// drop gives the message up with nowhere to go.
func (w *worker) drop(d *adapters.Delivery, err error) {
	w.s.bus.counters.dropped.Add(1)
	w.s.warn(d, "dropped", err)
	if f := w.s.cfg.onDrop; f != nil {
		defer func() {
			if v := recover(); v != nil {
				w.s.warn(d, "OnDrop panicked", &PanicError{Value: v})
			}
		}()
		c := deliveryContext{d: *d, queue: w.s.queue}
		f(c.public(), err)
	}
}

// warn logs what happened to a message: never its payload, of which a
// decoder's error may quote a piece.
func (s *Subscription) warn(d *adapters.Delivery, what string, err error, more ...any) {
	if !s.bus.log.Enabled(context.Background(), slog.LevelWarn) {
		return
	}
	text := err.Error()
	if errors.Is(err, ErrCodec) {
		text = ErrCodec.Error()
	}
	args := append([]any{"queue", s.queue, "id", d.Message.UUID, "attempt", d.Attempt, "error", text}, more...)
	if panicked, ok := errors.AsType[*PanicError](err); ok && len(panicked.Stack) > 0 {
		args = append(args, "stack", string(panicked.Stack))
	}
	s.bus.log.Warn("motif: "+what, args...)
}
