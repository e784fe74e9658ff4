package amqp

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// proof is that a queue takes messages: the first publish to it in a session, and after it
// was declared, goes alone until it has its answer. Those that were under way with it
// would overtake it if it were sent again.
type proof struct {
	generation uint64
	done       chan struct{} // closed when the queue is proven, or this is given up
	over       bool
}

// prove returns a proof to be given, or nil once there is one.
func (d *Driver) prove(ctx context.Context, o *outgoing) (*proof, error) {
	if o.exchange == "" && o.p.To.Kind == adapters.Reply || o.copies() {
		return nil, nil
	}
	x, at := d.nackRetries, o.place()
	for {
		session := d.publisher.generation()
		x.mu.RLock()
		p := x.proofs[at]
		proven := p != nil && p.over && p.generation == session
		x.mu.RUnlock()
		if proven { // nearly always
			return nil, nil
		}
		x.mu.Lock()
		p = x.proofs[at]
		switch {
		case p == nil || p.over && p.generation != session:
			if len(x.proofs) >= maxKnown {
				maps.DeleteFunc(x.proofs, func(_ place, p *proof) bool { return p.over })
			}
			p = &proof{generation: session, done: make(chan struct{})}
			x.proofs[at] = p
			x.mu.Unlock()
			return p, nil
		case p.over:
			x.mu.Unlock()
			return nil, nil
		}
		x.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, unavailable(ctx, nil)
		}
	}
}

// proven gives p: err is what became of its message.
func (d *Driver) proven(o *outgoing, p *proof, err error) {
	x := d.nackRetries
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.over = err == nil || errors.Is(err, adapters.ErrNacked); !p.over && x.proofs[o.place()] == p {
		delete(x.proofs, o.place())
	}
	close(p.done)
}

// unproven is for a queue that may be another than before.
func (d *Driver) unproven(queue string) {
	x := d.nackRetries
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.proofs[place{queue: queue}]; p != nil && p.over {
		delete(x.proofs, place{queue: queue})
	}
}

// alone publishes what p is to be proven with.
func (d *Driver) alone(ctx context.Context, o *outgoing, p *proof) error {
	err := d.once(ctx, o)
	if errors.Is(err, adapters.ErrNacked) {
		err = d.insist(ctx, o)
	}
	d.proven(o, p, err)
	return err
}

// aloneLater is alone in a goroutine of its own. It waits for a place for that.
func (d *Driver) aloneLater(ctx context.Context, o *outgoing, p *proof, done func(error)) error {
	giveUp := func(err error) error {
		d.proven(o, p, err)
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
	ok := d.spawn(func() {
		err := d.alone(d.ctx, o, p)
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
