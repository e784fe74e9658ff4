package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// groupSize is how many messages are held on one subscription. RabbitMQ's quorum queues (3.10 to
// 4.3) put more than 32 that one channel returns into any order.
const groupSize = 32

// maxGroups bounds the messages that are held.
const maxGroups = adapters.MaxBrowse/groupSize + 1

// errTooManyHeld ends a run that leaves too many letters in its way.
var errTooManyHeld = fmt.Errorf("%w: more than %d letters that are to stay are before others: it can hold no more", adapters.ErrInvalid, maxGroups*groupSize)

// A hand takes messages from a queue, one after another, and holds those that nobody settles, to be
// put back in their order. One subscription takes; once it holds as many as it may, another one
// goes on.
type hand struct {
	driver adapters.Driver
	ops    adapters.Inspector
	queue  string
	groups []*group
	lost   chan struct{} // closed once a session is lost: what is held comes again
	lose   func()        // closes it
	rest   int           // messages that came and were not looked at
}

// group is what is held on one subscription.
type group struct {
	sub    adapters.Subscription
	in     chan received
	cancel context.CancelFunc // ends its goroutine, which closes in
	unhook []func() bool

	came      int // messages so far
	unsettled int // messages that were taken and are neither settled nor held
	held      []held
}

// held is a message that is to be put back. Messages come to be held in any order: what was sent
// and refused waits for the broker's answer, what is not even sent does not.
type held struct {
	place   int // the order in which they came
	settler adapters.Settler
}

type received struct {
	delivery adapters.Delivery
	err      error
}

// active returns the group that takes messages, opening one if the last one is full.
func (h *hand) active(ctx context.Context) (*group, error) {
	if n := len(h.groups); n > 0 && len(h.groups[n-1].held) < groupSize {
		return h.groups[n-1], nil
	}
	if len(h.groups) == maxGroups {
		return nil, errTooManyHeld
	}
	sub, err := h.driver.Subscribe(ctx, adapters.Source{
		Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: h.queue}, Prefetch: groupSize, Passive: true,
	})
	if err != nil {
		return nil, err
	}
	receiving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &group{sub: sub, in: make(chan received), cancel: cancel}
	go g.receive(receiving)
	h.groups = append(h.groups, g)
	return g, nil
}

// receive hands over what is received, until ctx or the subscription ends.
func (g *group) receive(ctx context.Context) {
	defer close(g.in)
	for {
		d, err := g.sub.Receive(ctx)
		if err != nil && ctx.Err() != nil {
			return
		}
		g.in <- received{d, err} // somebody reads until it is closed
		if err != nil {
			return
		}
	}
}

// room reports whether another message can come: the broker sends no more than groupSize.
func (g *group) room() bool { return g.unsettled+len(g.held) < groupSize }

// took notes that a message was taken, and returns its place among those of its group.
func (h *hand) took(g *group, d *adapters.Delivery) (place int) {
	if g.unsettled+len(g.held) == 0 || len(g.unhook) == 0 {
		g.unhook = append(g.unhook, context.AfterFunc(d.Message.Context(), h.lose))
	}
	g.unsettled++
	return g.next()
}

func (g *group) next() int {
	g.came++
	return g.came
}

// hold keeps a message until the end.
func (g *group) hold(place int, s adapters.Settler) {
	g.unsettled--
	g.held = append(g.held, held{place, s})
}

// putAside holds a message that nobody looks at.
func (h *hand) putAside(g *group, s adapters.Settler) {
	h.rest++
	g.held = append(g.held, held{g.next(), s})
}

// isLost reports whether a session was lost.
func (h *hand) isLost() bool {
	select {
	case <-h.lost:
		return true
	default:
		return false
	}
}

const (
	idle        = 20 * time.Millisecond // without a message, before the queue is asked whether it has one
	putBackTime = 20 * time.Second      // for all
	settleTime  = 200 * time.Millisecond
)

// isEmpty reports whether nothing waits in the queue.
func (h *hand) isEmpty(ctx context.Context) (bool, error) {
	info, err := h.ops.Inspect(ctx, h.queue)
	return info.Ready == 0, err
}

// release puts back what is held. ctx may have ended.
func (h *hand) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTime)
	defer cancel()
	if n := len(h.groups); n > 0 && !h.isLost() {
		h.takeRest(ctx, h.groups[n-1])
	}
	var errs []error
	for _, g := range h.groups {
		g.cancel()
		for r := range g.in { // what was received just now
			if r.err == nil {
				h.putAside(g, r.delivery.Settler)
			}
		}
		errs = append(errs, g.sub.Stop())
	}
	for _, g := range h.groups {
		errs = append(errs, h.putBack(ctx, g))
		for _, unhook := range g.unhook {
			unhook()
		}
	}
	h.groups = nil
	return errors.Join(errs...)
}

// takeRest takes what the broker has sent to the subscription already, or will: when that ends, it
// gives back at once what was not received, which would then come before what is held.
func (h *hand) takeRest(ctx context.Context, g *group) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for quiet := 0; g.room() && quiet < 2; {
		timer.Reset(idle)
		select {
		case r, ok := <-g.in:
			if !ok || r.err != nil {
				return
			}
			quiet = 0
			h.putAside(g, r.delivery.Settler)
		case <-h.lost:
			return
		case <-ctx.Done():
			return
		case <-timer.C:
			if empty, err := h.isEmpty(ctx); err != nil || empty {
				quiet++
			}
		}
	}
}

// putBack requeues the messages of one group, those too that came on another session after one was
// lost, and waits until the queue has them: groups are on
// channels of their own, of which the broker may see the second one first.
func (h *hand) putBack(ctx context.Context, g *group) error {
	if len(g.held) == 0 {
		return nil
	}
	before, err := h.ops.Inspect(ctx, h.queue)
	slices.SortFunc(g.held, func(a, b held) int { return cmp.Compare(a.place, b.place) })
	var errs []error
	for _, m := range g.held {
		if err := m.settler.Settle(ctx, adapters.Requeue); err != nil && !errors.Is(err, adapters.ErrStaleDelivery) {
			errs = append(errs, err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, settleTime) // another consumer may take them at once
	defer cancel()
	for err == nil && len(h.groups) > 1 && !h.isLost() { // what came after a loss is in another order
		var now adapters.QueueInfo
		if now, err = h.ops.Inspect(wait, h.queue); now.Ready >= before.Ready+len(g.held) {
			break
		}
	}
	return errors.Join(errs...)
}
