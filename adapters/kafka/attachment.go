package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// trimEvery is how often what all have settled is taken out of a queue's topic.
const trimEvery = 10 * time.Second

// attachment is a subscription's consuming in one session. Its goroutine is that of
// subscription.run.
type attachment struct {
	*member
	sub     *subscription
	letters string          // the queue of its dead letters, or ""
	ctx     context.Context // of its messages
	end     context.CancelCauseFunc

	renewing []*delivery // to be written anew

	line *line // of a queue with a single active consumer, which has no share group; else nil

	// Guarded by the subscription's mutex:
	done    []settled // to be told to the broker
	returns bool      // some of it goes back
	fetched time.Time // when the last fetch returned
	took    time.Duration
	handled int           // since then
	pace    time.Duration // of handling one message, before that
	lost    bool
}

// over ends an attachment: what it holds is lost to it, and the broker gives it back.
func (at *attachment) over(why error) {
	s := at.sub
	s.mu.Lock()
	at.lost = true
	for h := range s.held {
		delete(s.held, h)
	}
	s.ready = nil
	s.mu.Unlock()
	if !errors.Is(why, adapters.ErrClosed) && !errors.Is(why, adapters.ErrStopped) {
		why = fmt.Errorf("%w: %w", adapters.ErrSessionLost, why)
	}
	at.end(why)
	at.client.Close()
}

// task is what an attachment has to do next.
type task struct {
	done     []settled
	room     int
	busy     bool // something is in hand
	over     bool
	isClosed bool
	stopped  bool
}

// next takes what is to be done.
func (at *attachment) next(renew bool) (t task) {
	s := at.sub
	t.stopped = s.why() != nil
	t.isClosed = s.d.tasks.IsClosed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.stopped { // what was not received goes back, and with the driver all
		back := s.ready
		s.ready = nil
		if t.isClosed {
			back = nil
			for h := range s.held {
				back = append(back, h)
			}
		}
		for _, h := range back {
			delete(s.held, h)
			at.done = append(at.done, settled{h.record.Offset, ackRelease})
		}
		for _, h := range at.renewing {
			at.done = append(at.done, settled{h.record.Offset, ackRelease})
		}
		at.renewing = nil
	}
	t.done, at.done, at.returns = at.done, nil, false
	t.over = t.stopped && (len(s.held) == 0 || s.source.Private())
	t.busy = len(s.held)+len(at.renewing) > 0
	if !t.stopped {
		t.room = s.source.Prefetch - len(s.held) - len(at.renewing)
	}
	if renew {
		for h := range s.held {
			t.done = append(t.done, settled{h.record.Offset, ackRenew})
		}
		for _, h := range at.renewing {
			t.done = append(t.done, settled{h.record.Offset, ackRenew})
		}
	}
	return t
}

// gatherTime is how long more may be settled before the broker is told, and asked for more.
const gatherTime = 10 * time.Millisecond

// canWait reports whether the broker need not be asked so far: there are messages to be received,
// and little room for others. A request for a few costs it as much as one for many, since it sends
// all of the batch in which those were written. Where it takes longer than to handle all that there
// is room for, it is best asked for as many as that. The subscription's mutex is held.
func (at *attachment) canWait() bool {
	s := at.sub
	return s.err == nil && len(s.ready) > 0 && !at.returns &&
		(len(s.held) > s.source.Prefetch/2 || at.pace*time.Duration(s.source.Prefetch) < at.took)
}

// gather waits as long as it can, but not for long.
func (at *attachment) gather(ctx context.Context) {
	s := at.sub
	enough := time.NewTimer(gatherTime)
	defer enough.Stop()
	for {
		s.mu.Lock()
		canWait := at.canWait()
		s.mu.Unlock()
		if !canWait {
			return
		}
		select {
		case <-s.wake:
		case <-enough.C:
			return
		case <-s.d.tasks.Closed():
			return
		case <-ctx.Done():
			return
		}
	}
}

// consume fetches and acknowledges until the subscription is over, or returns why it cannot.
func (at *attachment) consume(ctx context.Context) error {
	if at.line != nil {
		return at.line.consume(ctx)
	}
	s := at.sub
	beating, enough := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { at.beats(beating) })
	defer beats.Wait()
	defer enough()
	renewed, trimmed, progress := time.Now(), time.Now(), false
	for {
		at.writeAnew(ctx)
		at.gather(ctx)
		due := time.Since(renewed) > at.lock/3
		t := at.next(due)
		if due {
			renewed = time.Now()
		}
		progress = progress || len(t.done) > 0
		if t.over {
			ending, cancel := context.WithTimeout(ctx, stopTimeout)
			defer cancel()
			err := at.acknowledge(ending, t.done, true)
			enough()
			beats.Wait()
			at.leave(ending)
			if err == nil && progress && !s.source.Private() {
				at.trim(ctx)
			}
			return err
		}
		if progress && time.Since(trimmed) > trimEvery {
			at.trim(ctx)
			trimmed, progress = time.Now(), false
		}
		// What goes back has to be there before anything is fetched, or what is behind it would
		// come first.
		alone := t.room <= 0 || slices.ContainsFunc(t.done, func(d settled) bool { return d.how == ackRelease || d.how == ackRenew })
		if len(t.done) > 0 && alone {
			if err := at.acknowledge(ctx, t.done, false); err != nil {
				return err
			}
			t.done = nil
		}
		if t.stopped {
			s.stop()
		}
		if t.room > 0 {
			wait := waitIdle
			if t.busy {
				wait = waitBusy
			}
			if err := at.fetch(ctx, t.room, wait, t.done); err != nil {
				return err
			}
			continue
		}
		select {
		case <-s.wake:
		case <-time.After(at.lock/3 - time.Since(renewed)):
		case <-s.d.tasks.Closed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch takes what comes.
func (at *attachment) fetch(ctx context.Context, most int, wait time.Duration, done []settled) error {
	ctx, cancel := outliving(ctx, at.sub.life)
	defer cancel()
	begun := time.Now()
	at.sub.mu.Lock()
	if at.handled > 0 {
		at.pace = begun.Sub(at.fetched) / time.Duration(at.handled)
	}
	at.sub.mu.Unlock()
	got, gaps, err := at.member.fetch(ctx, most, wait, done)
	if err != nil {
		return err
	}
	at.sub.mu.Lock()
	at.fetched = time.Now()
	at.took, at.handled = at.fetched.Sub(begun), 0
	at.sub.mu.Unlock()
	at.take(got, gaps)
	return nil
}

// take makes records ready to be received.
func (at *attachment) take(got []acquired, gaps []settled) {
	s := at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	at.done = append(at.done, gaps...)
	for _, r := range got {
		h := &delivery{at: at, record: r}
		h.envelope, h.metadata = decode(r.Record)
		if r.count >= s.d.renewAt {
			at.renewing = append(at.renewing, h)
			continue
		}
		s.held[h] = struct{}{}
		s.ready = append(s.ready, h)
		s.come.Signal()
	}
}

// writeAnew writes records again that were delivered so often that the broker might drop them the
// next time: the new one counts from the beginning.
func (at *attachment) writeAnew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, at.lock/6)
	defer cancel()
	for len(at.renewing) > 0 {
		h := at.renewing[0]
		err := at.d.produce(ctx, again(h.record.Record, h.envelope, h.returned()))
		s := at.sub
		s.mu.Lock()
		switch {
		case errors.Is(err, adapters.ErrTooLarge), errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrAccess): // it will not be better
			s.held[h] = struct{}{}
			s.ready = append(s.ready, h)
			s.come.Signal()
		case err != nil:
			s.mu.Unlock()
			s.d.logger().Warn("kafka: a message that came back often cannot be written anew, and waits", "queue", s.queue, "error", err)
			return
		default:
			at.done = append(at.done, settled{h.record.Offset, ackAccept})
		}
		s.mu.Unlock()
		at.renewing = at.renewing[1:]
	}
}
