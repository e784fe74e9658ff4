package patterns

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// pendingRetry is a message that is being sent to its queue again. It is acknowledged once the
// broker has it, which no worker waits for: the broker would have to store each retry alone. Until
// then it is in hand.
type pendingRetry struct {
	s       *Subscription
	d       adapters.Delivery
	session context.Context // in which d came
	times   times
	err     error // why it is tried again
	wait    time.Duration

	observation *observation
	timer       *time.Timer

	mu      sync.Mutex
	known   bool
	sendErr error // once that is known
	left    bool  // the worker does something else
}

// pendingRetries are those of a subscription.
type pendingRetries struct {
	mu  sync.Mutex
	all map[*pendingRetry]struct{}
}

func (p *pendingRetries) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

func (p *pendingRetries) stillHold(ctx context.Context, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.all {
		if held := (lastMessage{r.d.Message.UUID, r.d.Settler, r.session}); held.isHeld(ctx, id) {
			return true
		}
	}
	return false
}

// addRetry has r count as in hand, until it is removed.
func (s *Subscription) addRetry(r *pendingRetry) {
	s.live.Add(1)
	s.retries.mu.Lock()
	defer s.retries.mu.Unlock()
	if s.retries.all == nil {
		s.retries.all = make(map[*pendingRetry]struct{})
	}
	s.retries.all[r] = struct{}{}
}

func (s *Subscription) removeRetry(r *pendingRetry) {
	s.retries.mu.Lock()
	delete(s.retries.all, r)
	s.retries.mu.Unlock()
	if s.flow.paused.Load() != nil {
		s.flow.note()
	}
	s.countOut()
}

// sendRetry sends the message to its queue again. It returns what came of it, or that this will be
// known later.
//
// A message that came back before is waited for: should it have been one whose retry failed, the
// worker can try it again itself. So is one that others wait for. What is prefetched bounds the
// others by itself, but behind a gate; twice as many, as another may be there already when one that
// is settled still counts.
func (w *worker) sendRetry(d *adapters.Delivery, err error, wait time.Duration) (pending bool, sendErr error) {
	s := w.s
	async, ok := s.bus.driver.(adapters.AsyncPublisher)
	if !ok || d.Redelivered || d.Lost > 0 || s.order != nil || s.gatherer != nil || s.retries.count() >= 2*s.prefetch {
		return false, s.resendDelayed(d, d.Attempt+1, wait)
	}
	r := &pendingRetry{s: s, d: *d, session: w.session, times: w.times, err: err, wait: wait}
	if d.Message == &w.original { // which the next message takes
		r.d.Message = &message.Message{UUID: d.Message.UUID, Payload: d.Message.Payload, Metadata: d.Message.Metadata}
		r.d.Message.SetContext(d.Message.Context())
	}
	cause, p, m := s.delayed(&r.d, d.Attempt+1, wait)
	ctx := detachedContext(d)
	if s.bus.hooks != nil {
		msgs := []*message.Message{m}
		r.observation = s.bus.hooks.observe(ctx, cause, p, msgs)
		m = msgs[0]
	}
	ctx, cancel := context.WithTimeout(ctx, resendTimeout)
	defer cancel()
	r.timer = time.AfterFunc(resendTimeout, func() { r.know(context.DeadlineExceeded) })
	s.addRetry(r)
	if sendErr = async.PublishAsync(ctx, p, m, r.confirmed); sendErr != nil {
		r.timer.Stop()
	} else if pending, sendErr = r.leave(); pending {
		return true, nil
	}
	s.removeRetry(r) // not the last one in hand: that is the worker's
	r.observation.end(sendErr)
	return false, sendErr
}

// leave reports whether the worker may go on; else it returns what came of the publish.
func (r *pendingRetry) leave() (ok bool, sendErr error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = !r.known
	return r.left, r.sendErr
}

// confirmed is called with the outcome of the publish.
func (r *pendingRetry) confirmed(err error) {
	r.timer.Stop()
	r.know(err)
}

// know is for the first outcome, which may be that there is none. It does not wait for anything: it
// is called by the goroutine that reads, too.
func (r *pendingRetry) know(err error) {
	r.mu.Lock()
	first, left := !r.known, r.left
	if first {
		r.known, r.sendErr = true, err
	}
	r.mu.Unlock()
	switch {
	case !first || !left:
	case err == nil && len(r.s.onSettle) == 0 && !r.observation.hasEnd() && r.d.Settle(r.s.settling, adapters.Ack) == nil:
		r.s.noteRetried(&r.d)
		r.s.removeRetry(r)
	default:
		go r.finish(err)
	}
}

// finish does the rest, as a worker would, but that it calls no handler.
func (r *pendingRetry) finish(err error) {
	s, d := r.s, &r.d
	defer s.removeRetry(r) // also if a hook calls runtime.Goexit
	w := &worker{s: s, times: r.times}
	w.bind(r.session)
	defer w.unbind()
	r.observation.end(err)
	if errors.Is(err, adapters.ErrNacked) { // for which a driver that is waited for has more patience
		err = s.resendDelayed(d, d.Attempt+1, r.wait)
	}
	switch {
	case err == nil:
		s.noteRetried(d)
		w.finishIn(d, adapters.Ack, ResultRetried, r.err, r.wait)
	case isMessageFault(err) && s.deadLetter != "":
		w.giveUp(d, r.err)
	case isTransient(err):
		w.sendFailed(d, err)
	default: // it comes back, and then a worker waits for what comes of it
		w.warn(d, "its next attempt could not be sent to the queue: back there after a while", err)
		_ = w.pause(min(r.wait, maxHold))
		w.requeue(d, err)
	}
}

// noteRetried notes that the message is in its queue again.
func (s *Subscription) noteRetried(d *adapters.Delivery) {
	s.bus.counters.retried.Add(1)
	s.knownReturns.forget(d.Message.UUID)
}
