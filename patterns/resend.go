package patterns

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// resend publishes a message that was received. The hooks of [OnPublish] get ctx.
func (b *Bus) resend(ctx context.Context, cause PublishCause, p adapters.Publication, m *message.Message) error {
	if b.hooks == nil {
		return b.resendNow(ctx, cause, p, m)
	}
	msgs := []*message.Message{m}
	o := b.hooks.observe(ctx, cause, p, msgs)
	err := b.resendNow(ctx, cause, p, msgs[0])
	o.end(singleError(err))
	return err
}

func (b *Bus) resendNow(ctx context.Context, cause PublishCause, p adapters.Publication, m *message.Message) error {
	err := b.publishWithin(ctx, resendTimeout, p, m)
	if cause == CauseDeadLetter && errors.Is(err, adapters.ErrUnroutable) { // somebody deleted the dead-letter queue
		ctx, cancel := context.WithTimeout(ctx, resendTimeout)
		defer cancel()
		if err = b.driver.Declare(ctx, adapters.Source{Endpoint: p.To}); err == nil {
			err = b.driver.Publish(ctx, p, m)
		}
	}
	return err
}

func (b *Bus) publishWithin(ctx context.Context, d time.Duration, p adapters.Publication, m *message.Message) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return b.driver.Publish(ctx, p, m)
}

// detachedContext returns a ctx that does not end, with the values of the message's, as middleware
// left it.
func detachedContext(d *adapters.Delivery) context.Context {
	return context.WithoutCancel(d.Message.Context())
}

// resendDelayed sends the message to its queue, with an attempt count and after a delay.
func (s *Subscription) resendDelayed(d *adapters.Delivery, attempt int, wait time.Duration) error {
	cause, p, m := s.delayed(d, attempt, wait)
	return s.bus.resend(detachedContext(d), cause, p, m)
}

// delayed returns what resendDelayed publishes.
func (s *Subscription) delayed(d *adapters.Delivery, attempt int, wait time.Duration) (PublishCause, adapters.Publication, *message.Message) {
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: s.queueOf(d)}, Key: d.Key, Properties: d.Properties, Delay: wait,
	}
	p.Attempt = attempt
	p.Mandatory = wait == 0 && s.bus.features.Ability.Has(adapters.CanReturn)
	m := d.Message
	if limit := s.bus.features.MaxDelay; limit > 0 && wait > limit {
		p.Delay, m = limit, clone(m)
		m.Metadata[HeaderNotBefore] = time.Now().Add(wait).UTC().Format(time.RFC3339Nano)
	}
	cause := CauseRetry
	if attempt == d.Attempt {
		cause = CauseRequeue
	}
	return cause, p, m
}

// resendToQueue sends d to its queue as it is, after a time. A queue that is full gets it when
// there is room.
func (s *Subscription) resendToQueue(ctx context.Context, d *adapters.Delivery, wait time.Duration) error {
	can := s.bus.features.Ability
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: s.queueOf(d)}, Key: d.Key, Properties: d.Properties,
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

// sendFailed gives the message back, after a pause: what cannot be sent on
// now would fail at once again.
func (w *worker) sendFailed(d *adapters.Delivery, err error) {
	w.warn(d, "a failed message could not be sent on, back to the queue", err)
	if w.keepPlace(d, err, resendPause) {
		return
	}
	_ = w.pause(resendPause) // cut short by a shutdown, which is as good a time
	w.requeue(d, err)
}

// isTransient reports whether err, of sending a message on, may be gone soon.
func isTransient(err error) bool {
	for _, passing := range []error{
		adapters.ErrUnavailable, adapters.ErrUnconfirmed, adapters.ErrUnroutable, adapters.ErrClosed,
		context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// isMessageFault reports whether err, of sending a message on, is for what the message itself is:
// trying again would not help, whoever tries.
func isMessageFault(err error) bool {
	return errors.Is(err, adapters.ErrTooLarge) || errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrAccess)
}

// isUnsendable reports whether trying again would not help before somebody has changed something:
// the message, or the rights of its receiver.
func isUnsendable(err error) bool { return isMessageFault(err) || errors.Is(err, adapters.ErrAccess) }
