package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Publish implements [adapters.Driver]. Messages are given to the pair one by
// one, so that the error can tell what became of each; their order is the
// pair's. What the pair reports as failed is ErrUnconfirmed, for watermill does
// not say whether it was sent, unless the pair's error wraps a certain one of
// package adapters.
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
	if len(b.msgs) > 0 {
		if err := d.send(ctx, b); err != nil {
			return err
		}
	}
	if len(b.failed) > 0 {
		slices.SortFunc(b.failed, func(x, y adapters.FailedMessage) int { return x.Index - y.Index })
		return &adapters.PublishError{Failed: b.failed}
	}
	return nil
}

// send publishes b. An error means that nothing was sent.
func (d *Driver) send(ctx context.Context, b *batch) error {
	select {
	case d.sends <- struct{}{}:
	case <-ctx.Done():
		return d.wrap("publish", ctx.Err())
	case <-d.closing:
		return adapters.ErrClosed
	}
	if err := d.begin(); err != nil {
		<-d.sends
		return err
	}
	done := make(chan struct{})
	go func() {
		defer d.work.Done()
		b.run(d.cfg.Publisher)
		<-d.sends
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		b.leave(ctx.Err())
	case <-d.closing:
		b.leave(adapters.ErrClosed)
	}
	return nil
}

// batch is the messages of one Publish and what became of them.
type batch struct {
	topic   string
	msgs    []*message.Message
	indexes []int // of msgs in the call

	mu     sync.Mutex
	next   int   // the first that was not begun
	busy   bool  // the one before it is under way
	left   error // why nobody waits any more
	failed []adapters.FailedMessage
}

// newBatch copies what can be sent, and notes what cannot.
func (d *Driver) newBatch(ctx context.Context, p *adapters.Publication, msgs []*message.Message) *batch {
	b := &batch{topic: p.To.Name}
	now := time.Now()
	for i, m := range msgs {
		if err := adapters.ValidateMessage(m); err != nil {
			id := ""
			if m != nil {
				id = m.UUID
			}
			b.fail(i, id, err)
			continue
		}
		packed, ok := pack(m, p, now)
		if !ok {
			b.fail(i, m.UUID, fmt.Errorf("%w: the metadata uses a key of the adapter's", adapters.ErrInvalid))
			continue
		}
		packed.SetContext(ctx)
		b.msgs, b.indexes = append(b.msgs, packed), append(b.indexes, i)
	}
	return b
}

func (b *batch) fail(index int, uuid string, err error) {
	b.failed = append(b.failed, adapters.FailedMessage{Index: index, UUID: uuid, Err: err})
}

// run publishes until nobody waits any more.
func (b *batch) run(publisher message.Publisher) {
	for i := 0; b.begin(i); i++ {
		b.finish(i, publisher.Publish(b.topic, b.msgs[i]))
	}
}

func (b *batch) begin(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i == len(b.msgs) || b.left != nil {
		return false
	}
	b.next, b.busy = i+1, true
	return true
}

func (b *batch) finish(i int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == nil && err != nil {
		b.fail(b.indexes[i], b.msgs[i].UUID, asUnconfirmed(err))
	}
	b.busy = false
}

// leave ends the wait: what was not begun is not sent.
func (b *batch) leave(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = why
	if b.busy {
		b.fail(b.indexes[b.next-1], b.msgs[b.next-1].UUID, fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, why))
	}
	for i := b.next; i < len(b.msgs); i++ {
		b.fail(b.indexes[i], b.msgs[i].UUID, why)
	}
}

// certain are the errors that say that a message is not stored.
var certain = [...]error{
	adapters.ErrUnroutable, adapters.ErrNacked, adapters.ErrTooLarge, adapters.ErrInvalid,
	adapters.ErrUnsupported, adapters.ErrMismatch, adapters.ErrUnavailable, adapters.ErrClosed,
}

func asUnconfirmed(err error) error {
	for _, sentinel := range certain {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, err)
}
