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
		fresh, err := o.fetch(ctx, interruptible)
		switch {
		case err != nil:
			return adapters.Delivery{}, err
		case fresh == nil:
			continue
		}
		o.decode(fresh)
		o.mu.Lock()
		o.admit(fresh)
		it = o.take() // which is the same, nearly always
		o.unlock()
		if it != nil {
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
func (o *ordered) fetch(ctx, interruptible context.Context) (it *orderedItem, err error) {
	d, err := o.Subscription.Receive(interruptible)
	if err == nil {
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
	return it, err
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

// newItem makes an item of d, which has it as its Settler. The caller receives, and does not hold
// o.mu.
func (o *ordered) newItem(d *adapters.Delivery) *orderedItem {
	session, queue := d.Message.Context(), partitionOf(d.Settler)
	if before := o.sessions[queue]; before == nil || before.Done() != session.Done() { // contexts need not be comparable
		o.mu.Lock()
		o.sessions[queue] = session
		o.dropStale()
		o.unlock()
	}
	it := &orderedItem{Settler: d.Settler, order: o, id: d.Message.UUID, session: session, payload: d.Message.Payload}
	it.d, it.ctx.d = &it.ctx.d, *d
	resetAttempts(it.d)
	it.d.Died = false // or they would be reset with every attempt
	it.d.Settler = it
	return it
}

// decode finds out what it has to know of a message.
func (o *ordered) decode(it *orderedItem) {
	returned := false
	defer func() {
		if !returned { // the function of OrderBy called runtime.Goexit: another worker hears of it
			o.undecoded(it)
		}
	}()
	if o.s.countsLosses(it.d) {
		it.suspect = o.s.suspects(it.d)
	}
	it.key, it.value, it.err = o.by.of(o.codecs, it.d)
	returned = true
}

func (o *ordered) undecoded(it *orderedItem) {
	it.err = Reject(errGoexit)
	o.mu.Lock()
	defer o.unlock()
	o.admit(it)
	o.wakeIfReady()
}

// takeDelivery is for the worker that has taken it.
func (it *orderedItem) takeDelivery() adapters.Delivery {
	d := it.d
	it.d = nil
	return *d
}

// newContext returns room for the ctx of a handler. An item has that of the first in itself, which
// saves an allocation.
func newContext(d *adapters.Delivery) *deliveryContext {
	it, ok := d.Settler.(*orderedItem)
	if !ok || it.called {
		return new(deliveryContext)
	}
	it.called = true
	return &it.ctx
}
