package patterns

import (
	"context"
	"runtime"

	"github.com/motifmq/motif/adapters"
)

// Receive implements [adapters.Subscription].
func (o *ordered) Receive(ctx context.Context) (adapters.Delivery, error) {
	for yielded := false; ; {
		o.mu.Lock()
		if err := ctx.Err(); err != nil {
			o.wakeIfReady() // it may have had a token
			o.unlock()
			return adapters.Delivery{}, err
		}
		it, receiving := o.take(), o.receiving
		switch {
		case it != nil:
			o.unlock()
			return it.takeDelivery(), nil
		case receiving && !yielded: // whoever does may have done so in a moment, which saves a sleep
			yielded = true
			o.unlock()
			runtime.Gosched()
			continue
		case receiving:
			o.idle++
			o.unlock()
			o.awaitWake(ctx)
			continue
		}
		o.receiving = true
		if o.receive.Err() != nil {
			o.receive, o.interrupt = context.WithCancel(ctx)
		}
		interruptible := o.receive
		o.unlock()
		d, fresh, err := o.fetch(ctx, interruptible)
		switch {
		case err != nil:
			return d, err
		case fresh == nil:
			continue
		}
		o.decode(&d, fresh)
		o.mu.Lock()
		o.admit(fresh)
		if it = o.take(); it != fresh {
			fresh.keepDelivery(d)
		}
		o.unlock()
		switch it {
		case nil:
		case fresh: // as it nearly always is
			return d, nil
		default:
			return it.takeDelivery(), nil
		}
	}
}

// awaitWake waits for a token, and is not idle any more.
func (o *ordered) awaitWake(ctx context.Context) {
	woken := false
	select {
	case <-o.wake:
		woken = true
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idle--
	if woken {
		o.waking = false
	}
}

// fetch receives a message from the driver. It returns no item if it was interrupted, because
// somebody has found something to do. The caller has set o.receiving.
func (o *ordered) fetch(ctx, interruptible context.Context) (d adapters.Delivery, it *orderedItem, err error) {
	if d, err = o.Subscription.Receive(interruptible); err == nil {
		it = o.newItem(&d)
	} else if interruptible.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	o.mu.Lock()
	defer o.unlock()
	if it != nil {
		o.held.append(it)
		o.fresh.add(it)
	}
	o.endReceiving()
	return d, it, err
}

// endReceiving lets somebody else receive. o.mu is held.
func (o *ordered) endReceiving() {
	if o.quiet != nil {
		close(o.quiet) // nobody else is to
		return
	}
	o.receiving = false
	o.wakeIfReady()
}

// newItem makes an item of d, whose Settler it becomes. The caller receives, and does not hold
// o.mu.
func (o *ordered) newItem(d *adapters.Delivery) *orderedItem {
	session, queue := d.Message.Context(), ""
	if part, ok := d.Settler.(*partSettler); ok {
		queue = part.part.source.Name
	}
	if before := o.sessions[queue]; before == nil || before.Done() != session.Done() { // contexts need not be comparable
		o.mu.Lock()
		o.sessions[queue] = session
		o.dropStale()
		o.unlock()
	}
	resetAttempts(d)
	d.Died = false // or they would be reset with every attempt
	it := &orderedItem{Settler: d.Settler, order: o, id: d.Message.UUID, queue: queue, session: session, payload: d.Message.Payload}
	d.Settler = it
	return it
}

// decode finds out what it has to know of a message.
func (o *ordered) decode(d *adapters.Delivery, it *orderedItem) {
	returned := false
	defer func() {
		if !returned { // the function of OrderBy called runtime.Goexit: another worker hears of it
			o.undecoded(*d, it)
		}
	}()
	if o.s.countsLosses(d) {
		it.suspect = o.s.suspects(d)
	}
	it.key, it.value, it.err = o.by.of(o.codecs, *d) // a copy, so that d stays on its stack
	returned = true
}

func (o *ordered) undecoded(d adapters.Delivery, it *orderedItem) {
	it.err = Reject(errGoexit)
	it.keepDelivery(d)
	o.mu.Lock()
	defer o.unlock()
	o.admit(it)
	o.wakeIfReady()
}

// keepDelivery is for an item that no worker takes at once.
func (it *orderedItem) keepDelivery(d adapters.Delivery) { it.d = &d }

// takeDelivery is for the worker that takes it later.
func (it *orderedItem) takeDelivery() adapters.Delivery {
	d := it.d
	it.d = nil
	return *d
}
