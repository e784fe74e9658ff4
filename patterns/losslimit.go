package patterns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
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

	maxSurvivors = 4096 // messages remembered to have come back for no fault of theirs
)

// LossLimit is how often the worker of a message may be lost before the message goes to the dead
// letters: 5 times without it, and at least 2. A worker is lost when its process dies, or when
// it holds the message for longer than the broker allows ([adapters.ErrConsumerTimeout]).
//
// Shutdowns do not count, nor do connections that are lost by a process that lives to get the
// message back. A message that came back twice is suspected, and goes to the end of its queue;
// from then on a subscription handles one such message at a time, so that others that were in
// the same hands are not blamed. Where the broker does not count what comes back (classic
// queues), each message that does goes to the end of its queue, with the count.
//
// It does not apply to private subscriptions, whose messages do not come again, nor with
// [AckOnReceive].
func LossLimit(n int) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if n < 2 {
			return invalid("LossLimit of %d, at least 2 are needed", n)
		}
		return once("LossLimit", &c.lossLimit, n)
	}}
}

// suspect is how many losses make a message one that is handled alone.
func (s *Subscription) suspect() int { return min(suspectAfter, s.cfg.lossLimit-1) }

// onTrial reports whether a message that is handled alone did it before, or is out at the next
// loss.
func (s *Subscription) onTrial(d *adapters.Delivery) bool {
	return d.Lost > s.suspect() || d.Lost+1 >= s.cfg.lossLimit
}

// counts reports whether losses of d are counted: there is no need to where a message has not
// come back, which is nearly always.
func (s *Subscription) counts(d *adapters.Delivery) bool {
	return (d.Redelivered || d.Lost > 0) && s.queue != "" && !s.cfg.ackOnReceive
}

// screen decides about a message that came back, or did so before. It reports whether the
// message is to be handled now, and whether that is to be done alone: then s.alone is held.
func (w *worker) screen(d *adapters.Delivery) (now, alone bool) {
	s, suspect := w.s, w.s.suspect()
	before, counted := d.Lost, d.Returned >= 0
	returned := s.blamed(d)
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
	case returned == 0 && s.alone.TryLock():
		s.suspicious.Store(true)
		if s.onTrial(d) {
			w.makeRoom()
		}
		return true, true
	case returned == 0:
		return w.sendBack(d, before, time.Second), false
	}
	s.suspicious.Store(true)
	s.bus.counters.lost.Add(1)
	w.warn(d, "its worker was lost", ErrWorkerLost, "lost", d.Lost, "limit", s.cfg.lossLimit)
	wait := time.Duration(0)
	if d.Lost > suspect { // for its own sake: leave time to whoever has to start again
		wait = s.retryWait(d.Lost-suspect, nil)
	}
	return w.sendBack(d, before+returned, wait), false
}

// sendBack sends d to the end of its queue, with the count of its losses, and reports whether d
// has to be handled now instead, for it cannot be sent.
func (w *worker) sendBack(d *adapters.Delivery, losses int, wait time.Duration) (now bool) {
	wait += rand.N(2*wait + 1) // or what was lost together would come back together
	if !w.s.bus.features.Ability.Has(adapters.CanDelay) && wait > 0 {
		_ = w.pause(wait) // cut short by a shutdown, which is as good a time
	}
	err := w.s.resendToQueue(valuesOf(d), d, wait)
	switch {
	case err == nil:
		w.s.survivors.forget(d.Message.UUID)
		w.finish(d, adapters.Ack, ResultRequeued, ErrWorkerLost)
		return false
	case unsendable(err) && losses >= w.s.cfg.lossLimit && w.s.deadLetter != "": // else it would be gone
		w.giveUp(d, &lostError{losses})
		return false
	}
	w.warn(d, "the count of its losses could not be sent on", err)
	return true
}

// soon is how long what is on its way from the broker is waited for.
const soon = 20 * time.Millisecond

// makeRoom sees to it that nothing is fetched that waits behind the message that w is about to
// handle alone: it would be lost with it. What is suspected, too, goes to the end of the queue,
// and all else comes next.
func (w *worker) makeRoom() {
	for range w.s.prefetch {
		ctx, cancel := context.WithTimeout(w.s.fetching, soon)
		err := w.fetchAhead(ctx)
		cancel()
		if err != nil {
			return
		}
	}
}

// keepRoom does as makeRoom while w handles a message alone, if nobody else would, until it is
// stopped.
func (w *worker) keepRoom() (stop func()) {
	if len(w.s.workers) > 1 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(w.s.fetching)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		for w.fetchAhead(ctx) == nil {
		}
	})
	return func() { cancel(); keeper.Wait() }
}

// fetchAhead receives a message before its turn.
func (w *worker) fetchAhead(ctx context.Context) error {
	if g, ok := w.s.driver.(*gated); ok && !g.fetchesAhead() {
		return adapters.ErrEmpty
	}
	d, err := w.s.receive(ctx)
	if err != nil {
		return err
	}
	if w.s.counts(&d) {
		if now, _ := w.screen(&d); !now { // nor alone, for w is
			return nil
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetched = append(w.fetched, d)
	return nil
}

// giveBackSuspects sends what is suspected and was fetched in vain to the end of the queue, and
// the rest back to its place: given back by the driver a suspect would be counted, and nobody
// was lost.
func (s *Subscription) giveBackSuspects(sub adapters.Subscription) {
	all, cancel := context.WithTimeout(s.settling, time.Second)
	defer cancel()
	for range 2 * s.prefetch { // what is given back may come again
		ctx, cancel := context.WithTimeout(all, soon)
		d, err := sub.Receive(ctx)
		cancel()
		if err != nil {
			return
		}
		afresh(&d)
		outcome := adapters.Requeue
		back := d.Redelivered // it is to be counted, by whoever gets it next
		if d.Lost >= s.suspect() && !back && s.resendToQueue(all, &d, time.Second+rand.N(time.Second)) == nil {
			outcome = adapters.Ack
		}
		if err := d.Settle(all, outcome); err != nil {
			_ = s.stale(&d, err)
		}
		if back {
			return
		}
	}
}

// next returns the next message for the worker.
func (w *worker) next() (adapters.Delivery, error) {
	for w.s.suspicious.Load() {
		d, ok := w.nextFetched()
		if !ok {
			break
		}
		switch {
		case d.Message.Context().Err() != nil: // it is delivered again
			w.s.survivors.note(d.Message.UUID)
		case w.s.fetching.Err() != nil:
			w.requeue(&d, ErrShutdown)
		default:
			return d, nil
		}
	}
	return w.s.receive(w.s.fetching)
}

func (s *Subscription) receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.driver.Receive(ctx)
	afresh(&d)
	return d, err
}

func (w *worker) nextFetched() (d adapters.Delivery, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetched) == 0 {
		return d, false
	}
	d, w.fetched = w.fetched[0], w.fetched[1:]
	return d, true
}

// resendToQueue sends d to its queue as it is, after a time. A queue that is full gets it when
// there is room.
func (s *Subscription) resendToQueue(ctx context.Context, d *adapters.Delivery, wait time.Duration) error {
	can := s.bus.features.Ability
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: s.queue}, Key: d.Key, Properties: d.Properties,
	}
	if can.Has(adapters.CanDelay) {
		p.Delay = wait
	}
	p.Mandatory = p.Delay == 0 && can.Has(adapters.CanReturn)
	err := s.bus.resend(ctx, CauseRequeue, p, d.Message)
	if errors.Is(err, adapters.ErrNacked) && p.Delay == 0 && can.Has(adapters.CanDelay) {
		p.Delay, p.Mandatory = time.Millisecond, false
		err = s.bus.resend(ctx, CauseRequeue, p, d.Message)
	}
	return err
}

// survivors are messages that came back though the worker that had them lives: it gave them
// back, or lost its connection. Nobody is to blame for these returns.
type survivors struct {
	mu      sync.Mutex
	returns map[string]int // by message id
}

func (v *survivors) note(id string) { v.add(id, 1) }

func (v *survivors) add(id string, n int) {
	if id == "" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.returns == nil || len(v.returns) >= maxSurvivors {
		v.returns = make(map[string]int)
	}
	if v.returns[id] += n; v.returns[id] == 0 {
		delete(v.returns, id)
	}
}

// forget is for a message of which another copy is sent: its returns are counted from 0.
func (v *survivors) forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.returns, id)
}

func (v *survivors) of(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.returns[id]
}

// blamed returns how many of its returns somebody is to blame d for.
func (s *Subscription) blamed(d *adapters.Delivery) int {
	id := d.Message.UUID
	held := 0
	if s.stillHeld(id) { // by a worker that is about to note it
		held = 1
	}
	if d.Returned >= 0 {
		return max(0, d.Returned-max(0, s.survivors.of(id))-held)
	}
	// That it came back is all that is known: what is forgiven now cannot be again.
	if held > 0 || s.survivors.of(id) > 0 {
		s.survivors.add(id, -1)
		return 0
	}
	return 1
}

// stillHeld reports whether a worker of s has the message in hand that it got in a session that
// is over, for no fault of the message.
func (s *Subscription) stillHeld(id string) bool {
	for _, w := range s.workers {
		if w.outlives(id) {
			return true
		}
	}
	return false
}

// heldMessage is what a worker has or had in hand, and the session in which it came.
type heldMessage struct {
	id      string
	settler adapters.Settler
	session context.Context
}

func (w *worker) letGo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = heldMessage{}
}

func (w *worker) outlives(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held.settler == nil || w.held.id != id || w.held.session.Err() == nil {
		return false
	}
	err := w.held.settler.Settle(w.s.settling, adapters.Requeue) // which has no effect any more
	return !errors.Is(err, adapters.ErrConsumerTimeout)
}
