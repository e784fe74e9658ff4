package patterns

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/motifmq/motif/adapters"
)

// maxHeld is how many messages a loop over [WorkQueue.Waiting] holds at most.
const maxHeld = 1000

// Waiting returns the messages that wait in the queue, for a loop that takes one after another. It
// ends with the last one that was there when it began: what comes later, or comes back because it
// was sent on and failed again, is left out.
//
// The body of the loop may settle a message. The rest is held until the loop ends, and then put
// back to its place, in its order, so that a loop that only looks changes nothing. (In a quorum
// queue a loop that is left early does: what it puts back goes behind what others put back before.)
// It can hold 1000 messages, and ends with an error when it would take one more.
//
//	for letter, err := range orders.Dead().Waiting(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(letter.Value, letter.Headers[patterns.HeaderReason])
//	}
//
// An error ends the loop, unless it is an ErrCodec: that comes with the message that does not
// decode. As TryGet does, Waiting needs an adapter that knows when a queue is empty.
func (q *WorkQueue[T]) Waiting(ctx context.Context) iter.Seq2[*Message[T], error] {
	return q.waiting(ctx, false)
}

// waiting is Waiting; what is redriven is not taken by the program, and [OnGet] is not called.
func (q *WorkQueue[T]) waiting(ctx context.Context, redriven bool) iter.Seq2[*Message[T], error] {
	return func(yield func(*Message[T], error) bool) {
		var held []*Message[T]
		defer func() { q.putBack(ctx, held) }()
		for left, first := 1, true; left > 0; left-- {
			if len(held) == maxHeld {
				yield(nil, q.opError("look through", invalid("%d messages are held: settle some of them, or look at fewer", maxHeld)))
				return
			}
			began := time.Now()
			d, err := q.tryGetDelivery(ctx)
			switch {
			case errors.Is(err, adapters.ErrEmpty):
				return
			case err != nil:
				yield(nil, q.opError("look through", err))
				return
			case first:
				left, first = 1+d.Remaining, false
			}
			m, err := q.newMessage(d)
			if !redriven {
				q.bus.got(ctx, Got{m.Delivery, began, err})
			}
			more := yield(m, q.opError("look through", err))
			if !m.settled.Load() {
				held = append(held, m)
			}
			if !more {
				return
			}
		}
	}
}

// putBack requeues messages that nobody has settled, in the order in which they were taken.
func (q *WorkQueue[T]) putBack(ctx context.Context, held []*Message[T]) {
	if len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resendTimeout)
	defer cancel()
	for _, m := range held {
		if err := m.Requeue(ctx); err != nil {
			q.bus.log.WarnContext(ctx, "motif: not put back, it is in hand until the bus is closed or its session lost", "queue", q.source.Name, "id", m.ID, "error", err)
		}
	}
}

// Redrive sends the dead letters that are in q when it begins back to the queues in which they
// died, and returns how many. Each goes as it came, with its id and its headers except those that
// say why it died, and has all its attempts again. One that fails again comes back, and stays.
//
// q is a queue of dead letters: the Dead of another queue, or one whose name ends in ".dead", as
// that of a group does: NewWorkQueue[Raw](bus, "order-placed:merchant.dead").
//
// A dead letter leaves q only when the broker has it in the other queue. Redrive ends at the first
// error. The dead letter it was about stays in q; after an ErrUnconfirmed it may be in both queues.
func (q *WorkQueue[T]) Redrive(ctx context.Context) (sent int, err error) {
	if q.err == nil && (q.deadLetter == "" || q.deadLetter != q.source.Name) {
		return 0, q.opError("redrive", invalid("it is no queue of dead letters"))
	}
	letters := WorkQueue[Raw]{sender: q.sender}
	for letter, err := range letters.waiting(ctx, true) {
		if err == nil {
			err = q.redrive(ctx, &letter.d)
		}
		if err == nil {
			err = letter.Ack(ctx)
		}
		if err != nil {
			return sent, q.opError("redrive", err)
		}
		sent++
	}
	return sent, nil
}

func (q *WorkQueue[T]) redrive(ctx context.Context, d *adapters.Delivery) error {
	m := clone(d.Message)
	to := m.Metadata[HeaderQueue]
	if to == "" {
		to = m.Metadata["x-first-death-queue"] // the broker made a dead letter of it
	}
	if to == "" {
		to = q.deadLettersOf
	}
	if to == "" {
		return fmt.Errorf("message %q: %w", clip(m.UUID, 64), invalid("it does not say in which queue it died"))
	}
	for _, name := range historyHeaders {
		delete(m.Metadata, name)
	}
	noteSentBack(m.Metadata, d.Timestamp)
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: to}, Key: d.Key, Properties: d.Properties,
		Mandatory: q.bus.features.Ability.Has(adapters.CanReturn),
	}
	p.Attempt, p.Lost = 0, 0
	if err := q.bus.resend(ctx, CauseRedrive, p, m); err != nil {
		return fmt.Errorf("message %q to queue %q: %w", clip(m.UUID, 64), clip(to, 64), singleError(err))
	}
	return nil
}
