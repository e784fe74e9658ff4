package patterns

import (
	"context"
	"strconv"
	"time"

	"github.com/motifmq/motif/adapters"
)

const (
	resendTimeout = 10 * time.Second // for a retry or dead letter to be stored
	maxReason     = 1 << 10          // bytes of an error's text that travel in a header
)

// giveUp sends the message to the dead letters and acknowledges it, or drops
// it where there are none.
func (w *worker) giveUp(d *adapters.Delivery, err error) {
	s := w.s
	if s.deadLetter == "" {
		defer w.finish(d, adapters.Reject, ResultDropped, err) // also if OnDrop calls runtime.Goexit
		w.drop(d, err)
		return
	}
	if sendErr := s.bus.sendDeadLetter(detachedContext(d), d, s.queueOf(d), s.deadLetter, s.cfg.retry.Max, err); sendErr != nil {
		if s.brokerRejects && s.bus.brokerCanDeadLetter(s.settling, s.deadLetter, sendErr) {
			s.bus.counters.deadLettered.Add(1)
			w.warn(d, "given up, to the dead letters as it came", err, "because", sendErr.Error())
			w.finish(d, adapters.Reject, ResultDeadLettered, err)
		} else {
			w.sendFailed(d, sendErr)
		}
		return
	}
	if s.deadLetter == s.queue {
		w.warn(d, "dead letter not repaired, it comes again", err)
		w.finishIn(d, adapters.Ack, ResultRetried, err, s.cfg.retry.Max)
		return
	}
	s.bus.counters.deadLettered.Add(1)
	w.warn(d, "given up, to the dead letters", err, "dead_letter", s.deadLetter)
	w.finish(d, adapters.Ack, ResultDeadLettered, err)
}

// drop gives the message up with nowhere to go.
func (w *worker) drop(d *adapters.Delivery, err error) {
	w.s.bus.counters.dropped.Add(1)
	w.warn(d, "dropped", err)
	if f := w.s.cfg.onDrop; f != nil {
		defer func() {
			if v := recover(); v != nil {
				w.warn(d, "OnDrop panicked", &PanicError{Value: v})
			}
		}()
		copied := *d // d itself goes on
		f(public(&copied, &w.s.origin), err)
	}
}

// brokerCanDeadLetter reports whether a message that could not be sent to the dead-letter queue is
// to be rejected, so that the broker makes a dead letter of it, as it came: where sending it again
// would not help, and the queue is there, or it would be dropped.
func (b *Bus) brokerCanDeadLetter(ctx context.Context, deadLetter string, sendErr error) bool {
	if !isUnsendable(sendErr) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, resendTimeout)
	defer cancel()
	src := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: deadLetter}}
	if b.features.Ability.Has(adapters.CanPassive) {
		asItStands := src
		asItStands.Passive = true
		if b.driver.Declare(ctx, asItStands) == nil {
			return true
		}
	}
	return b.driver.Declare(ctx, src) == nil
}

// sendDeadLetter sends a message that died in queue to its dead letters, with the
// reason. In a queue that is its own dead-letter queue the message stays: it
// comes again after wait.
func (b *Bus) sendDeadLetter(ctx context.Context, d *adapters.Delivery, queue, deadLetter string, wait time.Duration, reason error) error {
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: deadLetter}, Key: d.Key, Properties: d.Properties}
	p.Attempt, p.Lost, p.Lasting = 0, 0, true
	if deadLetter == queue {
		p.Delay = wait
		if limit := b.features.MaxDelay; limit > 0 {
			p.Delay = min(wait, limit)
		}
	} else {
		p.Mandatory = b.features.Ability.Has(adapters.CanReturn)
	}
	letter := clone(d.Message)
	if deadLetter == queue {
		letter.Metadata[HeaderRepair] = clip(reason.Error(), maxReason) // what it died of stays
	} else {
		letter.Metadata[HeaderReason] = clip(reason.Error(), maxReason)
		letter.Metadata[HeaderAttempts] = strconv.Itoa(d.Attempt)
		if d.Lost > 0 {
			letter.Metadata[HeaderLosses] = strconv.Itoa(d.Lost)
		}
		letter.Metadata[HeaderQueue] = queue
		letter.Metadata[HeaderDiedAt] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	return b.resend(ctx, CauseDeadLetter, p, letter)
}
