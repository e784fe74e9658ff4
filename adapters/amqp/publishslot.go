package amqp

import (
	"context"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// maxPublishSlots is how many channels of a connection may publish.
const maxPublishSlots = 16

// publishSlot holds a channel in confirm mode. Each exchange has a slot of its own while there are
// enough: the broker closes a channel for one publish that it refuses, and everything else pending
// on that channel is then unconfirmed. The default exchange, which all queues share, gives no
// reason to close, but for private queues, which may go at any time: those share a slot of their
// own. An exchange has one channel, not several, so that what a goroutine publishes to it stays in
// order.
type publishSlot struct {
	opening chan struct{} // held while a channel is being opened
	channel atomic.Pointer[publishChannel]
}

// privateSlot names the slot of what is sent to private queues. No exchange has this name.
const privateSlot = "\x00private"

// slotName returns the name of the slot through which o is sent.
func (o *outgoing) slotName() string {
	if o.exchange == "" && o.p.To.Kind == adapters.Reply {
		return privateSlot
	}
	return o.exchange
}

var slotSeed = maphash.MakeSeed()

// publishSlots returns how many of a connection's channels are for publishing. Where there is only
// one channel, it is lent for other operations: see lendOnlyChannel.
func publishSlots(channels int) int {
	return min(maxPublishSlots, max(1, channels-2*controlChannels(channels)))
}

// slot returns the slot of an exchange, or privateSlot.
func (conn *connection) slot(exchange string) *publishSlot {
	if strings.HasPrefix(exchange, ladderPrefix) { // many, and one slot for all of them
		exchange = ladderPrefix
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.slotList) == 0 { // the first is for the default exchange alone
		conn.slotList = []*publishSlot{{opening: make(chan struct{}, 1)}}
		conn.slots[""] = conn.slotList[0]
	}
	slot := conn.slots[exchange]
	switch {
	case slot != nil:
		return slot
	case len(conn.slotList) < conn.maxSlots:
		slot = &publishSlot{opening: make(chan struct{}, 1)}
		conn.slotList = append(conn.slotList, slot)
	case conn.maxSlots == 1:
		slot = conn.slotList[0]
	default:
		slot = conn.slotList[1+maphash.String(slotSeed, exchange)%uint64(conn.maxSlots-1)]
	}
	if len(conn.slots) < maxKnown {
		conn.slots[exchange] = slot
	}
	return slot
}

// publishChannel returns the open channel of a slot, opening one if need be.
func (conn *connection) publishChannel(ctx context.Context, name string) (*publishChannel, error) {
	slot := conn.slot(name)
	if pc := slot.channel.Load(); pc != nil && !pc.isClosed() {
		return pc, nil
	}
	select {
	case slot.opening <- struct{}{}:
		defer func() { <-slot.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	old := slot.channel.Load()
	if old != nil && !old.isClosed() {
		return old, nil
	}
	if old != nil { // perhaps because an exchange was deleted: declare it again
		conn.mu.Lock()
		clear(conn.declaredExchanges)
		clear(conn.delayQueues)
		conn.ladderRungs = 0
		conn.mu.Unlock()
		soon, cancel := context.WithTimeout(ctx, aloneTimeout)
		err := old.awaitDrained(soon)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && old.resume():
			return old, nil
		}
	}
	pc, err := kit.Call(ctx, conn.supervisor.driver.tasks, func() (*publishChannel, error) {
		if old != nil {
			old.close() // unless it is closed
		}
		return conn.newPublishChannel()
	}, (*publishChannel).close)
	if err == nil {
		slot.channel.Store(pc)
	}
	return pc, err
}

// lendOnlyChannel closes the only channel there is, once nothing is pending on it, and keeps others
// from opening it again until giveBack is called.
func (conn *connection) lendOnlyChannel(ctx context.Context) (giveBack func(), err error) {
	slot := conn.slot("")
	select {
	case slot.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	giveBack = func() { <-slot.opening }
	pc := slot.channel.Load()
	if pc == nil {
		return giveBack, nil
	}
	pc.drain()
	if err := pc.awaitDrained(ctx); err != nil {
		giveBack()
		return nil, err
	}
	pc.close()
	slot.channel.Store(nil) // what was learned on it still holds
	return giveBack, nil
}
