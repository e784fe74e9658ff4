package amqp

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// firstPublish is the first publish to a queue on a connection, or after the queue was declared. It
// goes alone until it is confirmed, which shows that the queue works: otherwise those behind it
// would overtake it if it had to be sent again.
type firstPublish struct {
	generation uint64
	done       chan struct{} // closed when it is confirmed or given up
	passed     bool
}

// claimFirst returns the first publish that o has to be, or nil if there was one. It waits for
// another that is under way.
func (d *Driver) claimFirst(ctx context.Context, o *outgoing) (*firstPublish, error) {
	if o.exchange == "" && o.p.To.Kind == adapters.Reply || o.reachesSeveral() {
		return nil, nil
	}
	retries, at := d.nackRetries, o.target()
	for {
		session := d.publisher.generation()
		retries.mu.RLock()
		first := retries.firsts[at]
		proven := first != nil && first.passed && first.generation == session
		retries.mu.RUnlock()
		if proven { // the usual case
			return nil, nil
		}
		retries.mu.Lock()
		first = retries.firsts[at]
		switch {
		case first == nil || first.passed && first.generation != session:
			if len(retries.firsts) >= maxKnown {
				maps.DeleteFunc(retries.firsts, func(_ target, first *firstPublish) bool { return first.passed })
			}
			first = &firstPublish{generation: session, done: make(chan struct{})}
			retries.firsts[at] = first
			retries.mu.Unlock()
			return first, nil
		case first.passed:
			retries.mu.Unlock()
			return nil, nil
		}
		retries.mu.Unlock()
		select {
		case <-first.done:
		case <-ctx.Done():
			return nil, unavailable(ctx, nil)
		}
	}
}

// endFirst ends a first publish. err is its result.
func (d *Driver) endFirst(o *outgoing, first *firstPublish, err error) {
	retries := d.nackRetries
	retries.mu.Lock()
	defer retries.mu.Unlock()
	if first.passed = err == nil || errors.Is(err, adapters.ErrNacked); !first.passed && retries.firsts[o.target()] == first {
		delete(retries.firsts, o.target())
	}
	close(first.done)
}

// forgetFirst is called for a queue that may not be the same as before.
func (d *Driver) forgetFirst(queue string) {
	retries := d.nackRetries
	retries.mu.Lock()
	defer retries.mu.Unlock()
	if first := retries.firsts[target{queue: queue}]; first != nil && first.passed {
		delete(retries.firsts, target{queue: queue})
	}
}

// publishFirst publishes o, which is the first.
func (d *Driver) publishFirst(ctx context.Context, o *outgoing, first *firstPublish) error {
	err := d.publishConfirmed(ctx, o)
	if queueFailed(err) {
		err = d.sendAgain(ctx, o, err)
	}
	d.endFirst(o, first, err)
	return err
}

// publishFirstAsync is publishFirst in a goroutine of its own. It waits for a place for that.
func (d *Driver) publishFirstAsync(ctx context.Context, o *outgoing, first *firstPublish, done func(error)) error {
	giveUp := func(err error) error {
		d.endFirst(o, first, err)
		return err
	}
	select {
	case d.nackRetries.slots <- struct{}{}:
	case <-d.ctx.Done():
		return giveUp(adapters.ErrClosed)
	case <-ctx.Done():
		return giveUp(unavailable(ctx, nil))
	}
	m := o.message
	o.message = &message.Message{UUID: m.UUID, Payload: slices.Clone(m.Payload), Metadata: maps.Clone(m.Metadata)}
	ok := d.tasks.Go(func() {
		err := d.publishFirst(d.ctx, o, first)
		if d.ctx.Err() != nil && !errors.Is(err, adapters.ErrUnconfirmed) && err != nil {
			err = adapters.ErrClosed
		}
		done(err)
		<-d.nackRetries.slots
	})
	if !ok {
		<-d.nackRetries.slots
		return giveUp(adapters.ErrClosed)
	}
	return nil
}
