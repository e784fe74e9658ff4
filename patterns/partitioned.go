package patterns

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// partitioned is the driver's subscriptions to all partitions of a queue, as one. Of each partition
// it is active, as the only one of all processes, or waits for its turn.
//
// All processes subscribe to all partitions, so the first would be active on every one. So each has
// a consumer of one more queue, too, by which they know how many they are (see balance), unless
// their subscriptions know that (adapters.ConsumerCounter). One that
// is active on more than its share leaves the rest: it has what it holds of a partition handled,
// and then subscribes to it again, behind the others. RabbitMQ 4 could do this by itself, with
// consumers of different priorities, but (seen with 4.3.6) a consumer whose connection breaks just
// when another one is to take its place stays a consumer, gets messages, and nobody has them.
type partitioned struct {
	bus      *Bus
	queue    string
	parts    []*partition
	member   adapters.Subscription // which is only counted, or nil
	received chan adapters.Delivery
	receive  context.Context // of those who receive from parts
	halt     context.CancelFunc
	running  sync.WaitGroup

	failed chan struct{} // closed when one has ended, for
	err    error
	fail   sync.Once
}

// partition is one of them.
type partition struct {
	source adapters.Source
	sub    adapters.Subscription // replaced with mu, by who receives from it
	next   *adapters.Delivery    // that was not handed on yet

	active  atomic.Bool // something came since it was subscribed to
	held    atomic.Int64
	settled chan struct{} // a token: less is held

	mu    sync.Mutex
	leave context.CancelFunc // asks who receives to leave the partition
}

const (
	membersSuffix = ".members"       // of the queue whose consumers are counted
	balancePause  = 2 * time.Second  // between two looks at how many there are
	leavePatience = 30 * time.Second // for what is held of a partition to be settled
)

// subscribePartitions subscribes to all, with src's prefetch for each.
func (b *Bus) subscribePartitions(ctx context.Context, p *partitions, src adapters.Source) (sub *partitioned, err error) {
	sub = &partitioned{
		bus: b, queue: p.queue, parts: make([]*partition, len(p.senders)),
		received: make(chan adapters.Delivery), failed: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, sub.Stop())
			sub = nil
		}
	}()
	sub.receive, sub.halt = context.WithCancel(context.WithoutCancel(ctx))
	for i := range sub.parts {
		sub.parts[i] = &partition{source: src, settled: make(chan struct{}, 1)}
		sub.parts[i].source.Name = p.senders[i].to.Name
	}
	if b.features.Ability.Has(adapters.CanAutoDelete | adapters.CanInspect) {
		sub.member, err = b.driver.Subscribe(ctx, adapters.Source{
			Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: p.queue + membersSuffix},
			Prefetch: 1, Queue: adapters.QueueSpec{AutoDelete: true},
		})
		if err != nil {
			return sub, err
		}
	}
	err = eachPartition(len(sub.parts), func(i int) (err error) {
		sub.parts[i].sub, err = b.driver.Subscribe(ctx, sub.parts[i].source)
		return err
	})
	if err != nil {
		return sub, err
	}
	for _, part := range sub.parts {
		sub.running.Go(func() { sub.pass(part) })
	}
	sub.running.Go(sub.balance)
	return sub, nil
}

// members returns how many processes there are, or 0 if that is not known.
func (p *partitioned) members() (n int) {
	if inspector, ok := p.bus.driver.(adapters.Inspector); ok && p.member != nil {
		if info, err := inspector.Inspect(p.receive, p.queue+membersSuffix); err == nil { // it may be there the next time
			n = info.Consumers
		}
		return n
	}
	for _, part := range p.parts {
		part.mu.Lock()
		if counter, ok := part.sub.(adapters.ConsumerCounter); ok {
			n = max(n, counter.Consumers())
		}
		part.mu.Unlock()
	}
	return n
}

// balance leaves partitions that are more than this process's share, from time to time.
func (p *partitioned) balance() {
	for sleep(p.receive, balancePause+rand.N(balancePause/4)) == nil {
		members := p.members()
		if members < 1 {
			continue
		}
		share := (len(p.parts) + members - 1) / members
		active := 0
		for _, i := range rand.Perm(len(p.parts)) {
			if part := p.parts[i]; part.active.Load() {
				if active++; active > share {
					part.askToLeave()
				}
			}
		}
	}
}

func (part *partition) askToLeave() {
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.leave != nil {
		part.leave()
	}
}

// pass hands on what comes from one partition, in order. What it holds in the end is given back
// with the rest.
func (p *partitioned) pass(part *partition) {
	for {
		err := p.passUntilAsked(part)
		if err == nil {
			err = p.leave(part)
		}
		switch {
		case p.receive.Err() != nil:
			return
		case err != nil:
			p.fail.Do(func() { p.err = err; close(p.failed) })
			return
		}
	}
}

// passUntilAsked returns nil once the partition is to be left.
func (p *partitioned) passUntilAsked(part *partition) error {
	asked, leave := context.WithCancel(p.receive)
	defer leave()
	part.mu.Lock()
	part.leave = leave
	part.mu.Unlock()
	for {
		if part.next == nil {
			d, err := part.sub.Receive(asked)
			if asked.Err() != nil && err != nil {
				return nil
			} else if err != nil {
				return err
			}
			d.Settler = &partSettler{Settler: d.Settler, part: part}
			part.next = &d
			part.active.Store(true)
		}
		part.held.Add(1)
		select {
		case p.received <- *part.next:
			part.next = nil
		case <-asked.Done():
			part.held.Add(-1)
			return nil
		}
	}
}

// leave subscribes to the partition again, behind those who wait for it, once nothing of it is in
// hand. If that takes too long the partition is kept.
func (p *partitioned) leave(part *partition) error {
	patience, cancel := context.WithTimeout(p.receive, leavePatience)
	defer cancel()
	for part.held.Load() > 0 {
		select {
		case <-part.settled:
		case <-patience.Done():
			return nil
		}
	}
	returner, ok := part.sub.(adapters.Returner)
	if !ok || p.receive.Err() != nil {
		return nil
	}
	if err := returner.StopAndReturn(); errors.Is(err, adapters.ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	part.next = nil
	part.active.Store(false)
	sub, err := retryUnavailable(p.receive, func(ctx context.Context) (adapters.Subscription, error) {
		return p.bus.driver.Subscribe(ctx, part.source)
	})
	if err == nil {
		part.mu.Lock()
		part.sub = sub
		part.mu.Unlock()
	}
	return err
}

// partSettler says from which partition a message came, and tells it when the message is settled.
type partSettler struct {
	adapters.Settler
	part *partition
	done atomic.Bool
}

func (s *partSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	err := s.Settler.Settle(ctx, o)
	if !s.done.Swap(true) {
		s.part.held.Add(-1)
		select {
		case s.part.settled <- struct{}{}:
		default:
		}
	}
	return err
}

// eachPartition calls do for all at the same time, and returns the first error, by number.
func eachPartition(n int, do func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Receive implements [adapters.Subscription].
func (p *partitioned) Receive(ctx context.Context) (adapters.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return adapters.Delivery{}, err
	}
	select {
	case d := <-p.received:
		return d, nil
	case <-ctx.Done():
		return adapters.Delivery{}, ctx.Err()
	case <-p.failed:
		return adapters.Delivery{}, p.err
	}
}

// Stop implements [adapters.Subscription].
func (p *partitioned) Stop() error { return p.stop(adapters.Subscription.Stop) }

// StopAndReturn implements [adapters.Returner].
func (p *partitioned) StopAndReturn() error {
	return p.stop(func(s adapters.Subscription) error {
		if r, ok := s.(adapters.Returner); ok {
			return r.StopAndReturn()
		}
		return adapters.ErrUnsupported
	})
}

// stop ends all, each by stop.
func (p *partitioned) stop(stop func(adapters.Subscription) error) error {
	p.halt()
	p.running.Wait()
	var left error
	if p.member != nil { // first, so that the others know
		left = p.member.Stop()
	}
	return errors.Join(left, eachPartition(len(p.parts), func(i int) error {
		if sub := p.parts[i].sub; sub != nil {
			return stop(sub)
		}
		return nil
	}))
}

// Address implements [adapters.Subscription].
func (p *partitioned) Address() string { return p.queue }

// queueOf returns the queue that a message came from: of several, its partition.
func (s *Subscription) queueOf(d *adapters.Delivery) string {
	if it, ok := d.Settler.(*orderedItem); ok {
		if name := partitionOf(it.Settler); name != "" {
			return name
		}
	}
	return s.queue
}

// partitionOf returns the partition that a message came from, or "".
func partitionOf(s adapters.Settler) string {
	if part, ok := s.(*partSettler); ok {
		return part.part.source.Name
	}
	return ""
}
