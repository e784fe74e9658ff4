package patterns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ErrWorkerLost is what a message is given up for whose worker was lost time and again while it
// was handled: the process died, or the broker took the message back because it was held for too
// long. See [LossLimit].
var ErrWorkerLost = errors.New("motif: worker lost")

type lostError struct{ times int }

func (e *lostError) Error() string        { return fmt.Sprintf("its worker was lost %d times", e.times) }
func (e *lostError) Is(target error) bool { return target == ErrWorkerLost }

const (
	defaultLossLimit = 5 // as many as a message is tried by default

	// suspectAfter is how often a message comes back before it is suspected of being the
	// cause. Whatever a lost worker held came back with it: only what is handled alone from
	// then on, and is lost again, is known to have done it.
	suspectAfter = 2

	// countDelay is how long a copy with the count is on its way at least. Handled before the
	// broker knows that its original is acknowledged, it could leave two of them.
	countDelay = 50 * time.Millisecond

	maxKnownReturns = 4096 // messages remembered to have come back for no fault of theirs
)

// LossLimit is how often the worker of a message may be lost before the message goes to the dead
// letters: 5 times without it, and at least 2. A worker is lost when its process dies, or when
// it holds the message for longer than the broker allows ([adapters.ErrConsumerTimeout]).
//
// Shutdowns do not count, nor do connections that are lost by a process that lives to get the
// message back. But a message that came back twice, be it from workers that were stopped, is
// suspected as if it had lost two, and goes to the end of its queue; from then on a subscription
// handles one such message at a time, so that others that were in the same hands are not blamed.
// Where the broker does not count what comes back (classic queues), each message that does goes to
// the end of its queue, with the count.
//
// With [OrderBy] a suspected message keeps its place, and nothing else is handled while it is. It
// is noted in another queue, with the suffix .losses, that it was lost once more, before it is
// handled, and the note is taken back when its handler has returned. A message without an id is not
// counted.
//
// It does not apply to private subscriptions, whose messages do not come again, nor with
// [AckOnReceive].
func LossLimit(n int) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if n < 2 {
			return invalid("LossLimit of %d, at least 2 are needed", n)
		}
		return setOnce("LossLimit", &c.lossLimit, n)
	}}
}

// suspectLimit is how many losses make a message one that is handled alone.
func (s *Subscription) suspectLimit() int { return min(suspectAfter, s.cfg.lossLimit-1) }

// needsEmptyPrefetch reports whether nothing may be fetched behind d while it is handled alone: its
// worker was lost when it was alone before, or the next loss is the last.
func (s *Subscription) needsEmptyPrefetch(d *adapters.Delivery) bool {
	return d.Lost > s.suspectLimit() || d.Lost+1 >= s.cfg.lossLimit
}

// countsLosses reports whether losses of d are counted: there is no need to where a message has not
// come back, which is nearly always.
func (s *Subscription) countsLosses(d *adapters.Delivery) bool {
	return (d.Redelivered || d.Lost > 0) && s.queue != "" && !s.cfg.ackOnReceive
}

// checkLosses decides about a message that came back, or did so before. It reports whether the
// message is to be handled now, and whether that is to be done alone: then s.aloneMu is held.
func (w *worker) checkLosses(d *adapters.Delivery) (now, alone bool) {
	s, suspect := w.s, w.s.suspectLimit()
	before, counted := d.Lost, d.Returned >= 0
	returned := s.unexplainedReturns(d)
	d.Returned = 0
	if before < suspect { // who was to blame is not known
		d.Lost = min(before+returned, suspect)
	} else { // whoever gets it back counts it, so that all but one never had it in hand
		returned = min(returned, 1)
		d.Lost += returned
	}
	switch {
	case returned > 0 && d.Lost >= s.cfg.lossLimit:
		w.giveUp(d, &lostError{d.Lost})
		return false, false
	case returned == 0 && before < suspect, counted && d.Lost < suspect:
		return true, false
	case returned == 0 && s.aloneMu.TryLock():
		s.hasSuspects.Store(true)
		if !w.emptyPrefetch() { // others would be blamed
			s.aloneMu.Unlock()
			return w.resendWithLosses(d, before, s.turnDelay()), false
		}
		return true, true
	case returned == 0:
		return w.resendWithLosses(d, before, s.turnDelay()), false
	}
	s.hasSuspects.Store(true)
	s.bus.counters.lost.Add(1)
	w.warn(d, "its worker was lost", ErrWorkerLost, "lost", d.Lost, "limit", s.cfg.lossLimit)
	wait := countDelay
	if d.Lost > suspect { // for its own sake: leave time to whoever has to start again
		wait = s.retryDelay(d.Lost-suspect, nil)
	}
	return w.resendWithLosses(d, before+returned, wait), false
}

// turnDelay is how long a suspect stays away at least that cannot be handled because another is. It
// comes back, and is in hand until it is sent on again: so that this is rarely where the other ends
// the process, it is a small part of the time, also where the broker is slow.
func (s *Subscription) turnDelay() time.Duration {
	return min(max(time.Second, 10*time.Duration(s.moveTook.Load())), 10*time.Second)
}

// resendWithLosses sends d to the end of its queue, with the count of its losses, and reports
// whether d has to be handled now instead, for it cannot be sent.
func (w *worker) resendWithLosses(d *adapters.Delivery, losses int, wait time.Duration) (now bool) {
	wait += rand.N(2*wait + 1) // or what was lost together would come back together
	if !w.s.bus.features.Ability.Has(adapters.CanDelay) && wait > 0 {
		_ = w.pause(wait) // cut short by a shutdown, which is as good a time
	}
	begun := time.Now()
	err := w.s.resendToQueue(detachedContext(d), d, wait)
	switch {
	case err == nil:
		w.s.moveTook.Store(int64(time.Since(begun)))
		w.s.knownReturns.forget(d.Message.UUID)
		w.finish(d, adapters.Ack, ResultRequeued, ErrWorkerLost)
		return false
	case isUnsendable(err) && losses >= w.s.cfg.lossLimit && w.s.deadLetter != "": // else it would be gone
		w.giveUp(d, &lostError{losses})
		return false
	}
	w.warn(d, "the count of its losses could not be sent on", err)
	return true
}
