package patterns

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Where messages have an order none can be sent to the end of its queue with the count of its
// losses, as [worker.checkLosses] does. Nor is the broker's own count enough: what only waited when
// a process died is counted with the message that was the reason. So a suspect is handled at its
// place, with nothing else in a handler, and before that is done a note is sent to a queue of
// notes: that it was lost once more. The note is taken back as soon as the handler has returned.

const (
	// notesSuffix is for the queue of notes, after the name of the queue.
	notesSuffix = ".losses"

	maxNotes    = 1000             // that are read to find one
	notesTime   = 10 * time.Second // for reading them, and for changing one
	noteExpires = 24 * time.Hour   // in case that its message is never seen again
)

// suspects reports whether d, which came back, is to be handled alone, and has its d.Lost count
// what is known of it.
func (s *Subscription) suspects(d *adapters.Delivery) bool {
	suspect, counted, returned := s.suspectLimit(), d.Returned >= 0, s.unexplainedReturns(d)
	if d.Lost < suspect {
		d.Lost = min(d.Lost+returned, suspect)
	}
	return d.Lost >= suspect || !counted && returned > 0
}

// beginSuspect decides about a suspect, with nothing else in a handler: whether it is handled now,
// given up, or has to wait, for the sake of others and of whoever has to start again each time.
func (w *worker) beginSuspect(d *adapters.Delivery, it *orderedItem) (now bool) {
	s, waited := w.s, it.cautious
	it.cautious = false
	isLast := func(noted int) bool { return noted > 0 && d.Lost+noted >= s.cfg.lossLimit }
	noted, err := s.changeNote(d, func(noted int) int {
		if noted > 0 && !waited || isLast(noted) {
			return noted
		}
		return noted + 1
	})
	lost := d.Lost + noted
	switch {
	case err != nil:
		w.warn(d, "its losses cannot be counted", err)
		return true
	case isLast(noted):
		it.noted, d.Lost = true, lost
		w.giveUp(d, &lostError{lost})
		return false
	case noted > 0 && !waited:
		s.bus.counters.lost.Add(1)
		wait := s.retryDelay(noted, nil)
		w.warn(d, "its worker was lost", ErrWorkerLost, "lost", lost, "limit", s.cfg.lossLimit, "in", wait)
		it.cautious = true
		w.park(d, wait)
		return false
	}
	it.noted, d.Lost = true, lost
	return true
}

// endSuspect takes the note back, for the worker is not lost.
func (w *worker) endSuspect(d *adapters.Delivery, it *orderedItem) {
	if !it.noted || it.tooLong.Load() {
		return
	}
	if _, err := w.s.changeNote(d, func(int) int { return 0 }); err != nil {
		w.warn(d, "the note of its loss cannot be taken back", err)
	}
	it.noted = false
}

// errNoID is for messages that cannot be told apart.
var errNoID = errors.New("it has no id")

// changeNote changes how many losses of d are noted, and returns how many were before.
func (s *Subscription) changeNote(d *adapters.Delivery, change func(int) int) (noted int, err error) {
	if d.Message.UUID == "" {
		return 0, errNoID
	}
	getter, ok := s.bus.driver.(adapters.Getter)
	if !ok || !s.bus.features.Ability.Has(adapters.CanGet) {
		return 0, &adapters.UnsupportedError{Adapter: s.bus.features.Adapter, Missing: adapters.CanGet}
	}
	ctx, cancel := context.WithTimeout(detachedContext(d), notesTime)
	defer cancel()
	to := adapters.Endpoint{Kind: adapters.Queue, Name: s.queueOf(d) + notesSuffix}
	var mine, others []adapters.Delivery
	changed := false
	defer func() {
		outcome := adapters.Requeue
		if changed && err == nil {
			outcome = adapters.Ack
		}
		for _, d := range others {
			err = errors.Join(err, d.Settle(ctx, adapters.Requeue))
		}
		for _, d := range mine {
			err = errors.Join(err, d.Settle(ctx, outcome))
		}
	}()
	for range maxNotes {
		note, err := getter.Get(ctx, adapters.Source{Endpoint: to})
		if errors.Is(err, adapters.ErrEmpty) {
			break
		}
		if err != nil {
			return 0, err
		}
		if note.Message.UUID == d.Message.UUID {
			mine, noted = append(mine, note), max(noted, note.Lost)
		} else {
			others = append(others, note)
		}
	}
	n := change(noted)
	if changed = n != noted; n == 0 || !changed {
		return noted, nil
	}
	p := adapters.Publication{To: to}
	p.Lost = n
	if s.bus.features.Ability.Has(adapters.CanExpire) {
		p.TTL = noteExpires
	}
	return noted, s.bus.driver.Publish(ctx, p, &message.Message{UUID: d.Message.UUID})
}
