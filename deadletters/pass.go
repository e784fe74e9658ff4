package deadletters

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

const (
	sendTimeout   = 30 * time.Second       // for a publish to begin
	finishTimeout = 10 * time.Second       // for what is in flight, once ctx has ended
	emptyTime     = 3 * idle               // of an empty queue, before a run ends that expected more
	lostTime      = 10 * time.Second       // likewise after a lost session, whose letters have to come back
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
	progress    time.Time        // when something was settled last

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
	lost := make(chan struct{})
	r.hand = &hand{driver: r.queue.driver, ops: r.ops, queue: r.queue.name, lost: lost, lose: sync.OnceFunc(func() { close(lost) })}
	r.left, r.flights, r.results, r.again = info.Ready, map[*flight]struct{}{}, make(chan result, 2*groupSize), nil
	if r.lost {
		r.left = max(r.left, r.remaining)
	}
	r.remaining = r.left
	r.report.Kept, r.report.CameBack, r.report.Failed = 0, 0, nil
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
	return false, ctx.Err()
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
		done    = ctx.Done()
		lost    = (<-chan struct{})(r.hand.lost)
		quiet   time.Time // since when nothing comes
		tick    = time.NewTimer(idle)
		stuck   = time.NewTimer(patience)
	)
	defer tick.Stop()
	defer stuck.Stop()
	for {
		sending := !r.limitReached() && r.again == nil && done != nil && lost != nil
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
			r.left--
			r.hand.took(group, &got.delivery)
			l := Letter{Delivery: got.delivery, Queue: r.queue.name}
			if !r.picks(ctx, group, &l) {
				continue
			}
			if r.o.Every > 0 && time.Now().Before(r.nextSend) {
				waiting, from = &l, group
				continue
			}
			r.send(ctx, group, l)
		case res := <-r.results:
			stuck.Reset(patience)
			r.settle(ctx, res)
		case <-lost:
			lost = nil
		case <-done:
			done = nil
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
				ended, err := r.ended(ctx, &quiet)
				if err != nil {
					return err
				}
				if ended {
					r.left = 0
				}
			}
		}
	}
}

// ended reports whether the queue has been empty for so long that nothing more will come.
func (r *run) ended(ctx context.Context, quiet *time.Time) (bool, error) {
	empty, err := r.hand.isEmpty(ctx)
	if err != nil || !empty {
		return false, err
	}
	if quiet.IsZero() {
		*quiet = time.Now()
	}
	enough := emptyTime
	if r.lost {
		enough = lostTime
	}
	return time.Since(*quiet) >= enough, nil
}

func (r *run) limitReached() bool {
	return r.o.Limit > 0 && r.report.Sent+r.report.Removed+len(r.flights) >= r.o.Limit
}
