package patterns

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ordered is a subscription of a driver's whose messages are received in the order of [OrderBy].
// Whoever receives one has its key, until done is called.
//
// There is no goroutine between the driver and the workers: one of those that are idle receives
// from the driver, and puts aside what is not to be handled yet, until it has something to
// do itself.
type ordered struct {
	adapters.Subscription // the driver's

	s      *Subscription
	by     keyOf
	codecs *codecs
	wake   chan struct{} // a token for an idle worker: there is something to do
	ended  sync.Once

	mu       sync.Mutex
	held     itemList                // all that were received and are not settled, in that order
	last     map[string]*orderedItem // the last one of each key
	fresh    itemQueue               // received, but not decoded yet, or behind such a one
	ready    itemQueue               // they have their keys, and no worker yet
	suspects itemQueue               // as ready, but to be handled alone
	running  int                     // with a worker
	alone    bool                    // and that is a suspect
	idle     int                     // workers that wait for a token
	waking   bool                    // one was sent, and nobody has seen yet what there is to do
	stopping bool
	over     bool           // all is given back
	stale    []*orderedItem // dropped, and not noted yet: unlock does so

	receiving bool                       // somebody waits for the driver,
	receive   context.Context            // with this ctx,
	interrupt context.CancelFunc         // which this ends;
	sessions  map[string]context.Context // of what came last from each partition, or from the queue (""), which is whoever receives's
	quiet     chan struct{}              // closed when nobody receives any more, if it is not nil
}

// orderedItem is a message that an ordered subscription holds, and its Settler.
type orderedItem struct {
	adapters.Settler // the driver's

	order   *ordered
	d       *adapters.Delivery // as the next worker gets it, unless one has it: ctx.d, at first
	ctx     deliveryContext    // of the handler that is called first
	id      string
	session context.Context // that delivered it
	key     string
	payload []byte
	value   any          // what it was decoded into, for the first attempt
	err     error        // why it has no key
	after   *orderedItem // the next one of its key
	wait    time.Duration
	timer   *time.Timer // while it is parked
	parks   int32       // how often it was parked with no attempt counted
	tooLong atomic.Bool // it was held for longer than the broker allows

	state    itemState
	decoded  bool // key, value and err are known
	begun    bool // a worker had it
	called   bool // ctx is taken
	suspect  bool // to be handled alone
	cautious bool // as a suspect that waits first
	noted    bool // see worker.beginSuspect

	prev, next *orderedItem // in held
}

type itemState uint8

const (
	itemFresh     itemState = iota // its key is not known yet
	itemWaits                      // for its key
	itemReady                      // for a worker
	itemRuns                       // with one
	itemParks                      // with one that is about to park it
	itemParked                     // for its timer
	itemGivenBack                  // for the end of the subscription
	itemGone                       // in nobody's hand, or in another session's
)

func (s *Subscription) newOrdered(sub adapters.Subscription, c *codecs) *ordered {
	o := &ordered{
		Subscription: sub, s: s, by: s.cfg.order, codecs: c,
		wake: make(chan struct{}, 1), last: make(map[string]*orderedItem), sessions: make(map[string]context.Context),
	}
	o.receive, o.interrupt = context.WithCancel(s.fetching)
	return o
}

// o.mu is held from here on, where nothing else is said.

// admit is for an item that was decoded: it takes its place, unless one before it has none yet.
func (o *ordered) admit(it *orderedItem) {
	it.decoded = true
	for o.fresh.len() > 0 && o.fresh.peek().decoded {
		o.queue(o.fresh.take())
	}
}

// queue puts it behind the others of its key.
func (o *ordered) queue(it *orderedItem) {
	it.after = nil
	if it.err != nil {
		o.makeReady(it) // it has none
		return
	}
	it.state = itemWaits
	before := o.last[it.key]
	o.last[it.key] = it
	if before == nil {
		o.makeReady(it)
	} else {
		before.after = it
	}
}

// release is for an item that had its key and gives it to the next one.
func (o *ordered) release(it *orderedItem) {
	if it.err != nil {
		return
	}
	for it.after != nil {
		before := it
		it, before.after = before.after, nil
		if it.state != itemGone {
			o.makeReady(it)
			return
		}
	}
	delete(o.last, it.key)
}

// makeReady is for an item that has its key.
func (o *ordered) makeReady(it *orderedItem) {
	it.state = itemReady
	if it.suspect {
		o.suspects.add(it)
	} else {
		o.ready.add(it)
	}
}

// next returns the queue of what is to be handled now, or nil. Nothing is handled besides a
// suspect, or begun while one waits.
func (o *ordered) next() *itemQueue {
	switch {
	case o.stopping, o.alone, o.suspects.len() > 0 && o.running > 0:
		return nil
	case o.suspects.len() > 0:
		return &o.suspects
	case o.ready.len() > 0:
		return &o.ready
	}
	return nil
}

// take returns an item for a worker, or nil if there is none.
func (o *ordered) take() *orderedItem {
	for q := o.next(); q != nil; q = o.next() {
		it := q.take()
		if it.state != itemGone && it.session.Err() != nil {
			o.dropLost(it)
		}
		if it.state == itemGone {
			o.release(it)
			continue
		}
		it.state, it.begun = itemRuns, true
		o.running++
		o.alone = it.suspect
		o.wakeIfReady()
		return it
	}
	return nil
}

// wakeIfReady has an idle worker find what there is to do. One at a time: who takes an item wakes
// the next.
func (o *ordered) wakeIfReady() {
	switch ready := o.next() != nil; {
	case o.idle > 0 && (ready || !o.receiving):
		o.wakeOne()
	case ready && o.receiving:
		o.interrupt()
	} // else all are busy
}

func (o *ordered) wakeOne() {
	if !o.waking {
		o.waking = true
		o.wake <- struct{}{} // it has room, for one at a time is woken
	}
}

// drop forgets an item that is in hand no more.
func (o *ordered) drop(it *orderedItem) {
	it.state = itemGone
	o.held.remove(it)
}

// dropLost is drop for one that is delivered again, for its session is lost.
func (o *ordered) dropLost(it *orderedItem) {
	o.drop(it)
	o.stale = append(o.stale, it)
}

// dropStale drops what waits and belongs to a session that is lost, so that each message is held
// once. Those that workers have, they drop.
func (o *ordered) dropStale() {
	for it := o.held.first; it != nil; {
		stale := it
		it = it.next
		if stale.session.Err() == nil {
			continue
		}
		switch stale.state {
		case itemWaits, itemReady: // which take finds out
			o.dropLost(stale)
		case itemParked:
			if stale.timer != nil { // it waits for the end of the subscription
				stale.timer.Stop()
			}
			o.dropLost(stale)
			if !o.s.cfg.overtake {
				o.release(stale)
			}
		}
	}
}

// unlock releases o.mu, and then notes what was lost with a session.
func (o *ordered) unlock() {
	stale := o.stale
	o.stale = nil
	o.mu.Unlock()
	for _, it := range stale {
		o.s.noteLost(it)
	}
}

// o.mu is not held from here on.

// noteLost is for a message that waited when its session was lost.
func (s *Subscription) noteLost(it *orderedItem) {
	switch {
	case s.queue == "" && it.begun: // nobody else has it: a private queue is gone with its session
		go (&worker{s: s}).drop(it.d, context.Cause(it.session))
	case s.queue == "":
	case errors.Is(it.Settler.Settle(s.settling, adapters.Requeue), adapters.ErrConsumerTimeout): // which has no effect any more
		s.bus.counters.timedOut.Add(1)
	default:
		s.knownReturns.note(it.id)
	}
}

// done is called when a worker has returned from handling an item.
func (o *ordered) done(it *orderedItem) {
	o.mu.Lock()
	o.running--
	if it.suspect {
		o.alone, it.suspect = false, it.cautious
	}
	switch {
	case it.state == itemParks && it.session.Err() != nil:
		o.dropLost(it)
		o.release(it)
	case it.state == itemParks:
		it.state = itemParked
		if !o.stopping {
			it.timer = time.AfterFunc(it.wait, func() { o.unpark(it) })
		}
		if o.s.cfg.overtake {
			o.release(it)
		}
	case it.state != itemGivenBack: // else those behind it are, too
		o.drop(it)
		o.release(it)
	}
	o.wakeIfReady()
	last := o.stopping && o.running == 0
	o.unlock()
	if last {
		o.giveBack()
	}
}

// unpark is for an item that has waited long enough.
func (o *ordered) unpark(it *orderedItem) {
	o.mu.Lock()
	defer o.unlock()
	if o.stopping || it.state != itemParked {
		return
	}
	if o.s.cfg.overtake {
		o.queue(it)
	} else {
		o.makeReady(it)
	}
	o.wakeIfReady()
}

// park has a message that w has in hand handled once more, after a wait, without a worker. It
// reports whether it does: not where there is no order.
func (w *worker) park(d *adapters.Delivery, wait time.Duration) bool {
	it, ok := d.Settler.(*orderedItem)
	if !ok {
		return false
	}
	m := clone(d.Message) // the worker may use it for another
	m.SetContext(it.session)
	it.order.mu.Lock()
	defer it.order.mu.Unlock()
	next := *d
	next.Message = m
	it.d, it.payload = &next, m.Payload
	it.wait, it.state = wait, itemParks
	return true
}
