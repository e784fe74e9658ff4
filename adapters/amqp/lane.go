package amqp

import (
	"context"
	"hash/maphash"
	"sync/atomic"
)

// maxLanes bounds the channels of a session that publish.
const maxLanes = 16

// lane is a place for a channel in confirm mode. Each exchange has its own, as
// long as there are enough: the broker closes a channel for one publish that it does
// not like, and all others on it are left without an answer. The default exchange, which
// the queues share, gives no reason for that. One channel, and not several, so that what
// one goroutine publishes to one exchange stays in order.
type lane struct {
	opening chan struct{} // held while a channel is being opened
	pipe    atomic.Pointer[pipe]
}

var laneSeed = maphash.MakeSeed()

// lanesOf is how many of so many channels are for publishing. Where there is one channel in all, it is lent
// for what is done in passing.
func publishSlots(channels int) int {
	return min(maxLanes, max(1, channels-2*controlChannels(channels)))
}

// lane returns the lane for an exchange.
func (conn *connection) slot(exchange string) *lane {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.slotList) == 0 { // the first is for the default exchange alone
		conn.slotList = []*lane{{opening: make(chan struct{}, 1)}}
		conn.slots[""] = conn.slotList[0]
	}
	l := conn.slots[exchange]
	switch {
	case l != nil:
		return l
	case len(conn.slotList) < conn.maxSlots:
		l = &lane{opening: make(chan struct{}, 1)}
		conn.slotList = append(conn.slotList, l)
	case conn.maxSlots == 1:
		l = conn.slotList[0]
	default:
		l = conn.slotList[1+maphash.String(laneSeed, exchange)%uint64(conn.maxSlots-1)]
	}
	if len(conn.slots) < maxKnown {
		conn.slots[exchange] = l
	}
	return l
}

// pipe returns the open pipe for an exchange, and opens one if need be.
func (conn *connection) publishChannel(ctx context.Context, exchange string) (*pipe, error) {
	l := conn.slot(exchange)
	if p := l.pipe.Load(); p != nil && !p.isOver() {
		return p, nil
	}
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	old := l.pipe.Load()
	if old != nil && !old.isOver() {
		return old, nil
	}
	if old != nil { // an exchange may have been deleted: declare it again
		conn.mu.Lock()
		clear(conn.declaredExchanges)
		conn.ladderRungs = 0
		conn.mu.Unlock()
		if err := old.allLanded(ctx); err != nil {
			return nil, err
		}
	}
	p, err := await(ctx, conn.supervisor.driver, func() (*pipe, error) {
		if old != nil {
			old.close() // if it is not gone
		}
		return conn.newPipe()
	}, (*pipe).close)
	if err == nil {
		l.pipe.Store(p)
	}
	return p, err
}

// lend closes the only channel that there may be, once what is in flight there has its answers, and
// keeps others from opening it again until it is given back.
func (conn *connection) lendOnlyChannel(ctx context.Context) (giveBack func(), err error) {
	l := conn.slot("")
	select {
	case l.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	giveBack = func() { <-l.opening }
	p := l.pipe.Load()
	if p == nil {
		return giveBack, nil
	}
	p.leave()
	if err := p.allLanded(ctx); err != nil {
		giveBack()
		return nil, err
	}
	p.close()
	l.pipe.Store(nil) // what was found out on it is still true
	return giveBack, nil
}
