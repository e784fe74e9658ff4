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
	if sendErr := s.bus.sendDeadLetter(valuesOf(d), d, s.queue, s.deadLetter, s.cfg.retry.Max, err); sendErr != nil {
		if s.brokerRejects && s.bus.canReject(s.settling, s.deadLetter, sendErr) {
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

// canReject reports whether the broker itself is to make a dead letter, as it came, of a message
// that could not be sent there: where trying again would not help. A dead-letter queue that
// is gone would have it dropped.
func (b *Bus) canReject(ctx context.Context, deadLetter string, sendErr error) bool {
	if !unsendable(sendErr) {
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
// reason. A queue that is its own dead-letter queue parks the message instead:
// it comes again after park.
func (b *Bus) sendDeadLetter(ctx context.Context, d *adapters.Delivery, queue, deadLetter string, park time.Duration, reason error) error {
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: deadLetter}, Key: d.Key, Properties: d.Properties}
	p.Attempt, p.Lost, p.Lasting = 0, 0, true
	if deadLetter == queue {
		p.Delay = park
		if limit := b.features.MaxDelay; limit > 0 {
			p.Delay = min(park, limit)
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
