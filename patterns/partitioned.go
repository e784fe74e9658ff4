package patterns

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// partitioned is the driver's subscriptions to all partitions of a queue, as one.
type partitioned struct {
	queue    string
	subs     []adapters.Subscription
	received chan adapters.Delivery
	receive  context.Context // of those who receive from subs
	halt     context.CancelFunc
	running  sync.WaitGroup

	failed chan struct{} // closed when one has ended, for
	err    error
	fail   sync.Once
}

// subscribePartitions subscribes to all, with src's prefetch for each.
func (b *Bus) subscribePartitions(ctx context.Context, p *partitions, src adapters.Source) (*partitioned, error) {
	sub := &partitioned{
		queue: p.queue, subs: make([]adapters.Subscription, len(p.senders)),
		received: make(chan adapters.Delivery), failed: make(chan struct{}),
	}
	err := eachPartition(len(sub.subs), func(i int) (err error) {
		part := src
		part.Name = p.senders[i].to.Name
		// High for some and low for others, by chance: so the partitions are spread over the
		// processes, and few of them move when one comes or goes. 0 is for who does not know of this.
		part.Precedence = 1 + rand.Int32N(math.MaxInt32)
		sub.subs[i], err = b.driver.Subscribe(ctx, part)
		return err
	})
	if err != nil {
		for _, s := range sub.subs {
			if s != nil {
				err = errors.Join(err, s.Stop())
			}
		}
		return nil, err
	}
	sub.receive, sub.halt = context.WithCancel(context.WithoutCancel(ctx))
	for i, s := range sub.subs {
		name := p.senders[i].to.Name
		sub.running.Go(func() { sub.pass(s, name) })
	}
	return sub, nil
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

// partSettler says from which partition a message came.
type partSettler struct {
	adapters.Settler
	queue string
}

// pass hands on what comes from one partition, in order. What it holds in the end is given back
// with the rest.
func (p *partitioned) pass(s adapters.Subscription, queue string) {
	for {
		d, err := s.Receive(p.receive)
		if err != nil {
			if p.receive.Err() == nil {
				p.fail.Do(func() { p.err = err; close(p.failed) })
			}
			return
		}
		d.Settler = &partSettler{d.Settler, queue}
		select {
		case p.received <- d:
		case <-p.receive.Done():
			return
		}
	}
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
func (p *partitioned) Stop() error {
	p.halt()
	p.running.Wait()
	return eachPartition(len(p.subs), func(i int) error { return p.subs[i].Stop() })
}

// StopAndReturn implements [adapters.Returner].
func (p *partitioned) StopAndReturn() error {
	p.halt()
	p.running.Wait()
	return eachPartition(len(p.subs), func(i int) error {
		if r, ok := p.subs[i].(adapters.Returner); ok {
			return r.StopAndReturn()
		}
		return adapters.ErrUnsupported
	})
}

// Address implements [adapters.Subscription].
func (p *partitioned) Address() string { return p.queue }

// queueOf returns the queue that a message came from: of several, its partition.
func (s *Subscription) queueOf(d *adapters.Delivery) string {
	if it, ok := d.Settler.(*orderedItem); ok && it.queue != "" {
		return it.queue
	}
	return s.queue
}
