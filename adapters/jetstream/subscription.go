package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// subscription is a consumer of a queue. Its mutex guards what it holds, too.
type subscription struct {
	d      *Driver
	source adapters.Source
	name   queueName
	over   chan struct{} // closed with err
	member string        // what tells it from other consumers of a queue that goes with the last one

	mu    sync.Mutex
	come  sync.Cond // there may be more to receive
	at    *attachment
	ready []*delivery            // to be received
	held  map[*delivery]struct{} // not settled: those that are ready, too
	err   error                  // why it has ended
}

func newSubscription(d *Driver, source adapters.Source) *subscription {
	s := &subscription{d: d, source: source, over: make(chan struct{}), member: newID(), held: map[*delivery]struct{}{}}
	s.come.L = &s.mu
	switch {
	case source.Kind == adapters.Reply:
		s.name = nameQueue(replyPrefix + newID())
	case source.Private():
		s.name = nameQueue(privatePrefix + newID())
	default:
		s.name = nameQueue(source.QueueName())
	}
	return s
}

// Address implements [adapters.Subscription].
func (s *subscription) Address() string { return s.name.name }

// declare makes the queue exist.
func (s *subscription) declare(ctx context.Context, session *session) (*queue, error) {
	if !s.source.Private() {
		return s.declareShared(ctx, session)
	}
	q, err := session.look(ctx, s.name)
	if errors.Is(err, adapters.ErrNotFound) {
		q, err = session.makeQueue(ctx, queue{queueName: s.name, id: newID(), private: true}, 1)
	}
	if err == nil {
		err = session.makeConsumer(ctx, q)
	}
	if err == nil && s.source.Kind != adapters.Reply {
		err = s.d.routes.Bind(ctx, s.source.Endpoint, q.bound(), s.source.Keys...)
		s.d.sweep(ctx, session, s.source.Endpoint)
	}
	return q, err
}

// sweep takes away private queues whose clients have died: a few, for each new one.
func (d *Driver) sweep(ctx context.Context, session *session, e adapters.Endpoint) {
	const few = 3
	bound, err := d.routes.Queues(ctx, e.Name)
	if err != nil {
		return // it is only housekeeping
	}
	bound = slices.DeleteFunc(bound, func(b kit.Bound) bool { return !strings.HasPrefix(b.Queue, privatePrefix) })
	for range min(few, len(bound)) {
		b := bound[rand.IntN(len(bound))]
		q := &queue{queueName: nameQueue(b.Queue), id: b.ID}
		_, err := session.js.Consumer(ctx, q.stream(), q.consumer())
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			_ = d.routes.Remove(ctx, e, b)
			_ = session.deleteQueue(ctx, q)
		}
	}
}

// declareShared is declare for a queue that others may have, too.
func (s *subscription) declareShared(ctx context.Context, session *session) (*queue, error) {
	wait := kit.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		q, err := s.d.declare(ctx, session, s.source)
		if err != nil || !q.spec.AutoDelete {
			return q, err
		}
		joined, err := s.d.join(ctx, session, q, s.member)
		if err != nil || joined {
			return q, err
		}
		select { // it is about to be deleted
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return nil, fmt.Errorf("jetstream: queue %q is being deleted: %w: %w", q.name, adapters.ErrUnavailable, ctx.Err())
		}
	}
}

// takeAll empties what is held, or what is ready of it, and returns it in the order of the queue.
// The mutex is held.
func (s *subscription) takeAll(only []*delivery) []*delivery {
	all := slices.Clone(only)
	if only == nil {
		for h := range s.held {
			all = append(all, h)
		}
	}
	for _, h := range all {
		delete(s.held, h)
	}
	all = slices.DeleteFunc(all, func(h *delivery) bool { return h.settled }) // those are on their way
	s.ready = nil
	slices.SortFunc(all, func(a, b *delivery) int { return cmp.Compare(a.arrived, b.arrived) })
	return all
}

// giveBack has the server deliver again, in order, what was held, maybe in an earlier session:
// without waiting until it notices. What it may have noticed already it gives to others by itself.
func (s *subscription) giveBack(ctx context.Context, session *session, q *queue, lost []*delivery) {
	lost = slices.DeleteFunc(lost, func(h *delivery) bool { return h.at.queue.id != q.id || time.Since(h.touched) > ackWait*3/4 })
	if len(lost) == 0 {
		return
	}
	// A pull that nobody waits for any more would take the first of them, and put it behind all
	// others: the server looks for such pulls when it is asked about the consumer.
	_, _ = session.ask(ctx, "$JS.API.CONSUMER.INFO."+q.stream()+"."+q.consumer(), nil)
	last := len(lost) - 1
	for _, h := range lost[:last] {
		_ = session.nc.Publish(h.reply, ackRequeue)
	}
	_, _ = session.ask(ctx, lost[last].reply, ackRequeue) // and hear that all have been seen
}

// Receive implements [adapters.Subscription].
func (s *subscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock() // so that it waits, or has not looked at ctx yet
		defer s.mu.Unlock()
		s.come.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := cmp.Or(s.err, ctx.Err()); err != nil {
			s.come.Signal() // what this one was woken for is another's
			return adapters.Delivery{}, err
		}
		if len(s.ready) == 0 {
			s.come.Wait()
			continue
		}
		h := s.ready[0]
		s.ready = s.ready[1:]
		if h.at != s.at || h.isLost() {
			continue // it is on its way back
		}
		if h.isExpired() {
			h.expire()
			continue
		}
		return h.deliver(), nil
	}
}

// run keeps the subscription attached until it is over.
func (s *subscription) run() {
	ctx, cancel := s.d.background()
	defer cancel()
	defer s.forget()
	ticker := time.NewTicker(pullHeartbeat)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		at := s.at
		silent := at.asked > 0 && time.Since(at.heard) > pullSilence
		s.mu.Unlock()
		if silent {
			at.leave()
		}
		select {
		case <-ticker.C:
			continue
		case <-s.over:
			return
		case <-at.session.ctx.Done():
		case <-at.gone:
			select {
			case <-time.After(deletionTime):
			case <-s.over:
				return
			case <-at.session.ctx.Done():
			}
		}
		if !s.reattach(ctx) {
			return
		}
	}
}

// deletionTime is how long a queue whose consumer is gone is left alone. A stream that is made
// while the server still deletes the one of that name before it exists, says so, and answers to
// nothing that is published to it (nats-server 2.15.2, one in a hundred that were made within a
// millisecond).
const deletionTime = 200 * time.Millisecond

// reattach attaches the subscription again, and returns false if it is over.
func (s *subscription) reattach(ctx context.Context) bool {
	wait := kit.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
	for {
		session, err := s.d.live(ctx)
		if err == nil {
			err = s.attach(ctx, session)
		}
		switch {
		case err == nil && s.isOver(): // meanwhile, and Stop saw the attachment before
			s.mu.Lock()
			at := s.at
			s.mu.Unlock()
			_ = at.inbox.Unsubscribe()
			s.leaveQueue(ctx, at)
			return false
		case err == nil:
			return true
		case errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrInvalid), s.source.Passive && errors.Is(err, adapters.ErrNotFound):
			s.finish(err)
			return false
		}
		select {
		case <-time.After(wait.Next()):
		case <-s.over:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (s *subscription) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// finish ends the subscription, and reports whether it had not ended before.
func (s *subscription) finish(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = why
	close(s.over)
	s.come.Broadcast()
	return true
}

// lose forgets what a subscription that is over holds in a session that was lost: the server gives
// it to others.
func (s *subscription) lose(session *session) {
	s.mu.Lock()
	if s.err != nil {
		for h := range s.held {
			if h.at.session == session {
				delete(s.held, h)
			}
		}
	}
	s.mu.Unlock()
	s.forget()
}

// forget lets the driver forget a subscription that is over and holds nothing.
func (s *subscription) forget() {
	s.mu.Lock()
	forget, at := s.err != nil && len(s.held) == 0, s.at
	s.mu.Unlock()
	if forget {
		s.d.mu.Lock()
		delete(s.d.subs, s)
		s.d.mu.Unlock()
		if !s.d.tasks.IsClosed() { // else what Close gave back is to hear of it
			at.session.drop(at)
		}
	}
}

// Stop implements [adapters.Subscription].
func (s *subscription) Stop() error {
	if !s.finish(adapters.ErrStopped) {
		return nil
	}
	ctx, cancel := s.d.background()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, apiTimeout)
	defer stop()
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	at.drain(ctx)
	s.mu.Lock()
	at.closed = true
	var back []*delivery
	if len(s.ready) > 0 {
		back = s.takeAll(s.ready)
	}
	s.mu.Unlock()
	s.giveBack(ctx, at.session, at.queue, back)
	s.leaveQueue(ctx, at)
	s.forget()
	return nil
}

// leaveQueue takes away the queue, if it is private, or goes with its last consumer and this is it.
func (s *subscription) leaveQueue(ctx context.Context, at *attachment) {
	if !s.source.Private() && (!at.queue.spec.AutoDelete || !s.d.leave(ctx, at.session, at.queue, s.member)) {
		return
	}
	if s.source.Kind.IsExchange() {
		_ = s.d.routes.Remove(ctx, s.source.Endpoint, at.queue.bound())
	}
	_ = at.session.deleteQueue(ctx, at.queue)
}

// discard is the end of a subscription that has not begun.
func (s *subscription) discard() {
	s.finish(adapters.ErrClosed)
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	if at != nil {
		_ = at.inbox.Unsubscribe()
		at.session.drop(at)
	}
}

// close ends the subscription with its driver, and gives back what it holds, in order.
func (s *subscription) close(ctx context.Context, session *session) {
	first := s.finish(adapters.ErrClosed)
	s.mu.Lock()
	s.err = adapters.ErrClosed
	at := s.at
	s.mu.Unlock()
	if at == nil || session == nil || at.session != session {
		return
	}
	if first {
		at.drain(ctx)
	}
	s.mu.Lock()
	at.closed = true
	back := s.takeAll(nil)
	s.mu.Unlock()
	s.giveBack(ctx, session, at.queue, slices.DeleteFunc(back, func(h *delivery) bool { return h.at.session != session }))
	if first {
		s.leaveQueue(ctx, at)
	}
}
