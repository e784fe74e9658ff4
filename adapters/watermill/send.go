package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Publish implements [adapters.Driver]. Messages are given to the pair one by one, so that the
// error can tell what became of each; their order is the pair's. What the pair reports as failed is
// ErrUnconfirmed, because watermill does not say whether it was sent, unless the pair's error wraps
// one of package adapters that does.
func (d *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if err := d.check(ctx, "publish"); err != nil {
		return err
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if err := d.features.Require(p.Needs()); err != nil {
		return err
	}
	if err := d.use(p.To); err != nil {
		return err
	}
	b := d.newBatch(ctx, &p, msgs)
	if len(b.copies) > 0 {
		if err := d.send(ctx, b); err != nil {
			return err
		}
	}
	return b.Err()
}

// send publishes b. An error means that nothing was sent.
func (d *Driver) send(ctx context.Context, b *batch) error {
	select {
	case d.sends <- struct{}{}:
	case <-ctx.Done():
		return d.wrap("publish", ctx.Err())
	case <-d.tasks.Closed():
		return adapters.ErrClosed
	}
	started := d.tasks.Go(func() {
		b.run(d.cfg.Publisher)
		<-d.sends
	})
	if !started {
		<-d.sends
		return adapters.ErrClosed
	}
	select {
	case <-b.Resolved():
	case <-ctx.Done():
		b.abandon(ctx.Err())
	case <-d.tasks.Closed():
		b.abandon(adapters.ErrClosed)
	}
	return nil
}

// batch is the messages of one Publish, and what became of them.
type batch struct {
	*kit.Batch
	topic   string
	copies  []*message.Message // of those that can be sent
	indexes []int              // of copies in the call

	mu    sync.Mutex
	begun int   // how many copies were given to the pair
	over  error // why nobody waits any more
}

// newBatch copies what can be sent, and notes what cannot.
func (d *Driver) newBatch(ctx context.Context, p *adapters.Publication, msgs []*message.Message) *batch {
	b := &batch{Batch: kit.NewBatch(msgs), topic: p.To.Name}
	now := time.Now()
	for i, m := range msgs {
		if err := adapters.ValidateMessage(m); err != nil {
			b.Resolve(i, err)
			continue
		}
		packed, ok := pack(m, p, now)
		if !ok {
			b.Resolve(i, fmt.Errorf("%w: the metadata uses a key of the adapter's", adapters.ErrInvalid))
			continue
		}
		packed.SetContext(ctx)
		b.copies, b.indexes = append(b.copies, packed), append(b.indexes, i)
	}
	return b
}

// run publishes until nobody waits any more.
func (b *batch) run(publisher message.Publisher) {
	for i := 0; i < len(b.copies) && b.begin(i); i++ {
		b.Resolve(b.indexes[i], asUnconfirmed(publisher.Publish(b.topic, b.copies[i])))
	}
}

// begin reports whether copy i is to be sent.
func (b *batch) begin(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over != nil {
		return false
	}
	b.begun = i + 1
	return true
}

// abandon ends the wait: what was not begun is not sent.
func (b *batch) abandon(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = why
	for i, index := range b.indexes {
		if i < b.begun { // in progress, unless it has a result already
			b.Resolve(index, fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, why))
		} else {
			b.Resolve(index, why)
		}
	}
}

// certain are the errors that say that a message was not stored.
var certain = [...]error{
	adapters.ErrUnroutable, adapters.ErrNacked, adapters.ErrTooLarge, adapters.ErrInvalid,
	adapters.ErrUnsupported, adapters.ErrMismatch, adapters.ErrUnavailable, adapters.ErrClosed,
}

func asUnconfirmed(err error) error {
	if err == nil {
		return nil
	}
	for _, sentinel := range certain {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, err)
}
