package patterns

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Settle implements [adapters.Settler]. What is to go back to the queue is given back in the end,
// with what was received behind it.
func (it *orderedItem) Settle(ctx context.Context, outcome adapters.Outcome) error {
	if outcome == adapters.Requeue && it.order.keep(it) {
		return nil
	}
	err := it.Settler.Settle(ctx, outcome)
	if errors.Is(err, adapters.ErrConsumerTimeout) {
		it.tooLong.Store(true)
	}
	return err
}

// keep reports whether an item is given back in the end.
func (o *ordered) keep(it *orderedItem) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.s.fetching.Err() == nil || o.over || it.state != itemRuns || it.session.Err() != nil {
		return false
	}
	it.state = itemGivenBack
	return true
}

// Stop implements [adapters.Subscription]. What was received goes back to the queue once nothing is
// running any more.
func (o *ordered) Stop() error {
	o.mu.Lock()
	o.stopping = true
	last := o.running == 0
	o.mu.Unlock()
	if last {
		o.giveBack()
	}
	return nil
}

// giveBackTime is how long giveBack waits for the broker.
const giveBackTime = time.Second

// giveBack gives back what is held, in order: also what the driver has, which would give it back
// before the rest, and so in another order.
func (o *ordered) giveBack() {
	o.ended.Do(func() {
		o.awaitQuiet()
		err := o.stopAndReturn()
		returned := err == nil
		if errors.Is(err, adapters.ErrUnsupported) {
			o.fetchRest()
			err = o.Subscription.Stop()
		}
		if err != nil {
			o.s.bus.log.Warn("motif: stopping a subscription", "queue", o.s.queue, "error", err)
		}
		rest := o.close()
		if returned {
			return
		}
		for _, it := range rest {
			d := adapters.Delivery{Settler: it.Settler, Message: &message.Message{UUID: it.id}}
			d.Message.SetContext(it.session)
			_ = o.s.settle(o.s.handling, &d, adapters.Requeue) // which notes it if that is too late
		}
	})
}

// stopAndReturn has the driver give everything back, if it can.
func (o *ordered) stopAndReturn() error {
	r, ok := o.Subscription.(adapters.Returner)
	if !ok || o.s.queue == "" { // a private queue is gone in any case
		return adapters.ErrUnsupported
	}
	return r.StopAndReturn()
}

// awaitQuiet waits for who receives to see that its ctx has ended. From then on no other does.
func (o *ordered) awaitQuiet() {
	o.mu.Lock()
	receiving := o.receiving
	if o.receiving = true; receiving {
		o.quiet = make(chan struct{})
	}
	o.mu.Unlock()
	if receiving {
		<-o.quiet
	}
}

// close returns what is to be given back, in order.
func (o *ordered) close() (rest []*orderedItem) {
	o.mu.Lock()
	defer o.unlock()
	o.over = true
	for it := o.held.first; it != nil; it = it.next {
		if it.timer != nil {
			it.timer.Stop()
		}
		if it.state == itemParked {
			o.s.bus.counters.requeued.Add(1)
		}
		if it.state != itemRuns && o.s.queue != "" {
			rest = append(rest, it)
		}
	}
	return rest
}

// fetchRest receives what the driver has.
func (o *ordered) fetchRest() {
	ctx, cancel := context.WithTimeout(o.s.settling, giveBackTime)
	defer cancel()
	if o.s.queue == "" {
		return
	}
	for range o.s.prefetch {
		d, err := tryReceive(ctx, o.Subscription)
		if err != nil {
			return
		}
		it := o.newItem(&d)
		o.mu.Lock()
		o.held.append(it)
		o.mu.Unlock()
	}
}
