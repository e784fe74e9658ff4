package deadletters

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

const (
	sendTimeout   = 30 * time.Second       // for a publish to begin
	finishTimeout = 10 * time.Second       // for what is in flight, once ctx has ended
	emptyTime     = 3 * idle               // of an empty queue, before a run ends that expected more
	lostTime      = 5 * time.Second        // likewise after a lost session, whose letters have to come back
	lostIdle      = 100 * time.Millisecond // between looks meanwhile
)

// run is one replay or drop. It goes through the queue in passes: when a session is lost the next
// one begins anew.
type run struct {
	queue    *Queue
	ops      adapters.Inspector
	o        ReplayOptions
	drop     bool
	features adapters.Features

	report      Report
	known       *known
	unconfirmed map[digest]Doubt // sent, with no answer, and not again since
	refused     map[string]error // destinations that take nothing
	found       map[string]bool  // of the filter's Refs, those that are letters
	progress    time.Time        // when something was settled last

	passed    bool // a letter of which the journal tells was left, in the last pass
	extra     int  // passes that were made because the queue was not empty at the end of one
	lost      bool // a session was lost, in an earlier pass
	remaining int  // how many letters should still be in the queue then

	// Of the pass that is under way:
	hand     *hand
	left     int // letters that are still to be taken
	flights  map[*flight]struct{}
	results  chan result
	again    error // why another pass is needed
	nextSend time.Time
}

// flight is a letter that was published and is not confirmed yet.
type flight struct {
	letter  Letter
	group   *group
	digest  digest
	to      string
	settled bool // given up, whatever comes
}

type result struct {
	f   *flight
	err error
}

// pass goes through the queue once, and reports whether it has to be done again, and why.
func (r *run) pass(ctx context.Context) (again bool, err error) {
	info, err := r.ops.Inspect(ctx, r.queue.name)
	if err != nil {
		return isPassing(err), err
	}
	left := info.Ready
	if r.hand != nil && left > 0 {
		left = max(left, r.hand.rest)
	}
	lost := make(chan struct{})
	r.hand = &hand{driver: r.queue.driver, ops: r.ops, queue: r.queue.name, lost: lost, lose: sync.OnceFunc(func() { close(lost) })}
	r.left, r.flights, r.results, r.again = left, map[*flight]struct{}{}, make(chan result, 2*groupSize), nil
	switch {
	case r.left == 0: // or the broker was too busy to say: see ended
		r.left = math.MaxInt
	case r.lost:
		r.left = max(r.left, r.remaining)
	}
	r.remaining = r.left
	r.report.Kept, r.report.CameBack, r.report.Failed, r.passed = 0, 0, nil, false
	err = r.work(ctx)
	err = errors.Join(err, r.hand.release(ctx))
	switch {
	case err != nil:
		r.lost = r.lost || r.hand.isLost()
		return isPassing(err), err
	case r.hand.isLost():
		r.lost = true
		return true, errors.Join(r.again, adapters.ErrSessionLost)
	case r.again != nil:
		return true, r.again
	}
	return r.hasMore(ctx), ctx.Err()
}

// maxExtra bounds the passes that are made because there are letters that were not looked at.
const maxExtra = 3

// hasMore reports whether letters wait that the pass has not looked at although it was to: a broker
// that is busy may say of a queue that it holds less than it does.
func (r *run) hasMore(ctx context.Context) bool {
	if ctx.Err() != nil || r.limitReached() || r.extra == maxExtra {
		return false
	}
	if r.hand.rest == 0 {
		if info, err := r.ops.Inspect(ctx, r.queue.name); err != nil || info.Ready <= r.report.Kept {
			return false
		}
	}
	r.extra++
	return true
}

// isPassing reports whether err may be gone soon.
func isPassing(err error) bool {
	for _, passing := range []error{adapters.ErrUnavailable, adapters.ErrUnconfirmed, adapters.ErrNacked, adapters.ErrSessionLost, adapters.ErrStaleDelivery} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// work takes letters and sends them, until all are done or the pass has to end.
func (r *run) work(ctx context.Context) error {
	var (
		waiting *Letter // for its time to be sent
		from    *group
		done    = ctx.Done() // nil if ctx cannot end, or once it has been noticed
		ended   = false
		lost    = (<-chan struct{})(r.hand.lost)
		quiet   time.Time // since when nothing comes
		tick    = time.NewTimer(idle)
		stuck   = time.NewTimer(patience)
	)
	defer tick.Stop()
	defer stuck.Stop()
	for {
		sending := !r.limitReached() && r.again == nil && !ended && lost != nil
		taking := sending && r.left > 0
		if !sending && waiting != nil {
			r.keep(from, waiting)
			waiting = nil
		}
		if !taking && waiting == nil && len(r.flights) == 0 {
			return nil
		}
		var in <-chan received
		var group *group
		if taking && waiting == nil {
			var err error
			if group, err = r.hand.active(ctx); err != nil {
				if len(r.flights) == 0 || ctx.Err() != nil {
					return err
				}
				r.again = err
				continue
			}
			if group.room() {
				in = group.in
			}
		}
		wait := idle
		if waiting != nil {
			wait = max(0, time.Until(r.nextSend))
		} else if r.lost {
			wait = lostIdle
		}
		tick.Reset(wait)
		select {
		case got := <-in:
			quiet = time.Time{}
			stuck.Reset(patience)
			if got.err != nil {
				r.again = got.err
				if !isPassing(got.err) {
					return got.err
				}
				continue
			}
			if l := r.taken(ctx, group, got.delivery); l != nil {
				waiting, from = l, group
			}
		case res := <-r.results:
			stuck.Reset(patience)
			r.settle(ctx, res)
		case <-lost:
			lost = nil
		case <-done:
			done, ended = nil, true
			stuck.Reset(finishTimeout)
		case <-stuck.C:
			if waiting == nil {
				r.giveUp()
			}
			stuck.Reset(patience)
		case <-tick.C:
			switch {
			case waiting != nil:
				l := *waiting
				waiting = nil
				r.send(ctx, from, l)
			case in != nil && len(r.flights) == 0:
				next, err := r.ended(ctx, &quiet)
				switch {
				case errors.Is(err, adapters.ErrEmpty):
					r.left = 0
				case err != nil:
					return err
				case next != nil:
					quiet = time.Time{}
					waiting, from = r.taken(ctx, group, *next), group
				}
			}
		}
	}
}

// taken handles a message that was taken, and returns it if it has to wait for its time to be sent.
func (r *run) taken(ctx context.Context, g *group, d adapters.Delivery) (waits *Letter) {
	r.left--
	l := Letter{Delivery: d, Queue: r.queue.name, place: r.hand.took(g, &d)}
	switch {
	case !r.picks(ctx, g, &l):
	case r.o.Every > 0 && time.Now().Before(r.nextSend):
		return &l
	default:
		r.send(ctx, g, l)
	}
	return nil
}

// ended returns ErrEmpty once the queue has been empty for so long that nothing more will come.
// RabbitMQ (4.3) says of a quorum queue that it is empty, too, if it has not found out within a
// quarter of a second; so the last word is that of a Get, and what that takes is the next message.
func (r *run) ended(ctx context.Context, quiet *time.Time) (next *adapters.Delivery, err error) {
	empty, err := r.hand.isEmpty(ctx)
	if err != nil || !empty {
		*quiet = time.Time{}
		return nil, err
	}
	if quiet.IsZero() {
		*quiet = time.Now()
	}
	enough := emptyTime
	if r.lost {
		enough = lostTime
	}
	if time.Since(*quiet) < enough {
		return nil, nil
	}
	getter, ok := r.queue.driver.(adapters.Getter)
	if !ok {
		return nil, adapters.ErrEmpty
	}
	d, err := getter.Get(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: r.queue.name}, Passive: true})
	if err != nil {
		return nil, err
	}
	return &d, nil
}

func (r *run) limitReached() bool {
	return r.o.Limit > 0 && r.report.Sent+r.report.Removed+len(r.flights) >= r.o.Limit
}
