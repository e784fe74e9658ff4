package amqp

import (
	"errors"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ackWriter is the part of a channel that a ledger writes to. It does not block.
type ackWriter interface {
	Ack(tag uint64, multiple bool) error
	Nack(tag uint64, multiple, requeue bool) error
}

// ackDelay is how long an acknowledgement may wait for others, to be sent with them. Where the
// broker's next messages are needed soon, it is a quarter of that: what the broker needs to send
// them is then no time that handlers wait.
const ackDelay = time.Millisecond

// runDelay is how long an acknowledgement waits for the next of its run, which is on its way: on a
// busy machine longer than ackDelay.
const runDelay = 50 * ackDelay

// ledger keeps account of the deliveries of one channel: what is in hand, what is settled, and what
// the broker knows of that. Acknowledgements are sent in runs: one frame acknowledges everything up
// to a tag, which saves both sides a third of the work.
type ledger struct {
	channel  ackWriter
	prefetch int

	mu     sync.Mutex
	inHand int
	unsent int  // acknowledged, but not yet sent
	inRun  bool // they are all of runs that go on, and wait for the next

	// Tags count from 1, and every tag gets settled. All before first are; states begins with that
	// of first.
	first      uint64
	states     []state
	ackedRun   uint64   // the last acknowledged tag before first if it is not sent yet, else 0
	outOfOrder []uint64 // acknowledged tags that were not first when they were

	expired uint64 // the tag that was held for too long, if the broker said so, else 0

	stopped  bool  // nothing more is handed out
	closeErr error // set once nothing can be settled
	timer    *time.Timer
	flushed  time.Time // when acknowledgements were last sent early
	drained  func()    // called once stopped and nothing is in hand, without holding mu
}

type state uint8

const (
	unsettled state = iota
	acked           // but not yet sent
	reported
)

func newLedger(ch ackWriter, prefetch int) *ledger {
	return &ledger{channel: ch, prefetch: prefetch, first: 1}
}

// handOut notes that a message is handed out, or returns false if it must not be.
func (l *ledger) handOut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.closeErr != nil {
		return false
	}
	l.inHand++
	return true
}

// settle tells the broker the outcome of a message, now or soon. Each tag is settled once. If an
// acknowledgement is one of a run, another one comes at once.
func (l *ledger) settle(tag uint64, o adapters.Outcome, inRun bool) error {
	l.mu.Lock()
	if l.closeErr != nil {
		err := l.closeErr
		l.mu.Unlock()
		return err
	}
	l.inHand--
	var err error
	if o == adapters.Ack {
		l.acknowledge(tag, inRun)
	} else {
		l.mark(tag, reported)
		err = l.channel.Nack(tag, false, o == adapters.Requeue)
	}
	drained := l.stopped && l.inHand == 0
	if drained {
		l.flush()
	}
	l.mu.Unlock()
	if drained && l.drained != nil {
		l.drained()
	}
	if err != nil { // the channel is gone, which the ledger did not know yet
		return adapters.ErrStaleDelivery
	}
	return nil
}

// l.mu is held from here on.

func (l *ledger) acknowledge(tag uint64, inRun bool) {
	if tag != l.first {
		l.outOfOrder = append(l.outOfOrder, tag)
	}
	l.mark(tag, acked)
	l.unsent++
	switch {
	// The broker sends no more than prefetch. Not waiting for all of them keeps it sending.
	case !inRun && (l.unsent >= (l.prefetch+1)/2 || l.stopped || l.isShort()):
		l.flush()
	case inRun && l.unsent == 1:
		l.inRun = true
		l.flushIn(runDelay)
	case !inRun && (l.inRun || l.unsent == 1):
		l.inRun = false
		l.flushIn(ackDelay)
	}
}

// flushIn flushes after d, and not when it was to before.
func (l *ledger) flushIn(d time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.flushNow)
	} else {
		l.timer.Reset(d)
	}
}

// isShort reports whether acknowledgements are to be sent early: what is on its way or buffered is
// less than what is in hand, so that it may be used up before more comes.
func (l *ledger) isShort() bool {
	if l.prefetch-l.inHand-l.unsent >= l.inHand {
		return false
	}
	now := time.Now()
	if now.Sub(l.flushed) < ackDelay/4 {
		return false
	}
	l.flushed = now
	return true
}

// mark sets the state of a tag, and advances first past all that is settled.
func (l *ledger) mark(tag uint64, s state) {
	at := int(tag - l.first)
	for at >= len(l.states) {
		l.states = append(l.states, unsettled)
	}
	l.states[at] = s
	settled := 0
	for settled < len(l.states) && l.states[settled] != unsettled {
		if l.states[settled] == acked {
			l.ackedRun = l.first + uint64(settled)
		}
		settled++
	}
	if settled > 0 {
		l.first += uint64(settled)
		l.states = append(l.states[:0], l.states[settled:]...)
	}
}

// flush sends all acknowledgements that are not sent yet.
func (l *ledger) flush() {
	if l.unsent == 0 {
		return
	}
	// The broker looks for the tag itself, and closes the channel if that is settled already:
	// ackedRun is acknowledged and not sent, not just any settled tag.
	if l.ackedRun != 0 {
		_ = l.channel.Ack(l.ackedRun, true)
		l.ackedRun = 0
	}
	for _, tag := range l.outOfOrder {
		if tag >= l.first && l.states[tag-l.first] == acked {
			l.states[tag-l.first] = reported
			_ = l.channel.Ack(tag, false)
		}
	}
	l.outOfOrder = l.outOfOrder[:0]
	l.unsent = 0
}

func (l *ledger) flushNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closeErr == nil {
		l.flush()
	}
}

// flushIfStarving is called by receivers that find nothing: if the broker waits for
// acknowledgements before it sends more, it gets them.
func (l *ledger) flushIfStarving() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsent > 0 && l.unsent+l.inHand >= l.prefetch && l.closeErr == nil {
		l.flush()
	}
}

// stop hands out nothing more, and reports whether something is in hand.
func (l *ledger) stop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.closeErr == nil {
		l.flush()
	}
	return l.inHand > 0
}

// requeue requeues a message that was not handed out.
func (l *ledger) requeue(tag uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closeErr == nil {
		l.mark(tag, reported)
		_ = l.channel.Nack(tag, false, true)
	}
}

// close ends settling: from now on settle returns why. A reason that is final stays.
func (l *ledger) close(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isFinal() {
		return
	}
	l.closeErr = why
	l.states, l.outOfOrder = nil, nil
	if l.timer != nil {
		l.timer.Stop()
	}
}

// expire is close because the broker has taken everything back. It did so because of the message
// that was held longest, which is the first that is not settled.
func (l *ledger) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isFinal() {
		l.expired = l.first
		l.closeErr = adapters.ErrStaleDelivery
	}
}

// isFinal reports whether the reason that nothing can be settled is a final one. l.mu is held.
func (l *ledger) isFinal() bool {
	return l.closeErr != nil && !errors.Is(l.closeErr, errAllSettled) && !errors.Is(l.closeErr, errUndecided)
}

// heldTooLong reports whether the broker took everything back because of tag.
func (l *ledger) heldTooLong(tag uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expired == tag
}

// closedErr returns why nothing can be settled any more, or nil.
func (l *ledger) closedErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeErr
}
