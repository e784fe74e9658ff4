package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var publishMutants = []mutant{
	{"confirms messages that it has yet to send, and is closed before it does", "publish/confirmed-is-stored", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			return publish(ctx, p, msgs[:max(len(msgs)-1, 0)]...)
		}
	}},
	{"counts attempts by itself", "publish/whole", changing(func(p *adapters.Publication) { p.Attempt++ })},
	{"loses the key of what is sent to a queue", "publish/whole", changing(func(p *adapters.Publication) { p.Key = "" })},
	{"loses what a message says of its type and its publisher", "publish/whole", changing(func(p *adapters.Publication) { p.Type, p.AppID = "", "" })},
	{"loses the time of publishing", "publish/whole", receiving(func(d *adapters.Delivery) { d.Timestamp = d.Timestamp.AddDate(1, 0, 0) })},
	{"adds metadata of its own", "publish/whole", receiving(func(d *adapters.Delivery) { d.Message.Metadata.Set("x-internal", "1") })},
	{"says nothing when a mandatory message is dropped", "publish/unroutable", changing(func(p *adapters.Publication) { p.Mandatory = false })},
	{"names the first message of a call whichever failed", "publish/unroutable", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
				for i := range failed.Failed {
					failed.Failed[i].UUID = msgs[0].UUID
				}
			}
			return err
		}
	}},
	{"returns the bare reason, without the message", "publish/unroutable", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
				return failed.Failed[0].Err
			}
			return err
		}
	}},
	{"takes one message's return for another's when several are under way", "publish/unroutable-among-many", func(m *mutated) {
		publish := m.publish
		var returns, owed atomic.Int32
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			switch {
			case errors.Is(err, adapters.ErrUnroutable) && returns.Add(1)%7 == 0:
				owed.Add(1)
				return nil
			case err == nil && owed.Load() > 0 && owed.Add(-1) >= 0:
				return &adapters.PublishError{Failed: []adapters.FailedMessage{{UUID: msgs[0].UUID, Err: adapters.ErrUnroutable}}}
			}
			return err
		}
	}},
	{"takes every message for mandatory", "publish/unroutable-optional", changing(func(p *adapters.Publication) { p.Mandatory = true })},
	{"says nothing when a full queue refuses", "publish/nacked", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if err := publish(ctx, p, msgs...); !errors.Is(err, adapters.ErrNacked) {
				return err
			}
			return nil
		}
	}},
	{"has a full queue drop the oldest message where it should refuse", "publish/nacked", specifying(func(q *adapters.QueueSpec) { q.Overflow = adapters.DropHead })},
	{"refuses everything once a queue was full", "publish/nacked", func(m *mutated) {
		publish := m.publish
		var full atomic.Bool
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if full.Load() {
				return &adapters.PublishError{Failed: []adapters.FailedMessage{{UUID: msgs[0].UUID, Err: adapters.ErrNacked}}}
			}
			err := publish(ctx, p, msgs...)
			full.Store(errors.Is(err, adapters.ErrNacked))
			return err
		}
	}},
	{"takes messages that are larger than it says", "publish/too-large", func(m *mutated) {
		features := m.features
		m.features = func() adapters.Features {
			f := features()
			f.MaxBody = 1000
			return f
		}
	}},
	{"cuts what is too long, and sends it", "publish/invalid", changing(func(p *adapters.Publication) {
		p.CorrelationID = p.CorrelationID[:min(len(p.CorrelationID), adapters.MaxNameBytes)]
	})},
	{"takes a negative delay for none", "publish/invalid", changing(func(p *adapters.Publication) { p.Delay = max(p.Delay, 0) })},
	{"does not look at the publication of no messages", "publish/invalid", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if len(msgs) == 0 {
				return nil
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"stops at the first bad message of a call", "publish/batch-with-a-bad-one", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			for i, msg := range msgs {
				err := publish(ctx, p, msg)
				if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
					failed.Failed[0].Index = i
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"counts the messages of a call from the first bad one", "publish/batch-with-a-bad-one", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
				for i := range failed.Failed {
					failed.Failed[i].Index = i
				}
			}
			return err
		}
	}},
	{"wants at least one message", "publish/no-messages", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if len(msgs) == 0 {
				return fmt.Errorf("%w: no messages", adapters.ErrInvalid)
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"sends though ctx has ended", "publish/ended-ctx", withoutCancel},
	{"ends with its own error when ctx does", "publish/ended-ctx", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"waits for a confirm whatever ctx says", "publish/ended-while-waiting", withoutCancel},
	{"takes the end of ctx for a message that was not stored", "publish/ended-while-waiting", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if errors.Is(err, adapters.ErrUnconfirmed) {
				return ctx.Err()
			}
			return err
		}
	}},
	{"waits for a blocked broker whatever ctx says", "publish/blocked", withoutCancel},
	{"stops consuming while the broker takes no messages", "publish/blocked", func(m *mutated) {
		block := m.harness.Block
		var blocked atomic.Bool
		m.harness.Block = func(ctx context.Context) (func() error, error) {
			blocked.Store(true)
			return block(ctx)
		}
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			if blocked.Load() {
				<-ctx.Done()
				return adapters.Delivery{}, ctx.Err()
			}
			return receive(ctx, s)
		}
	}},
	{"calls back twice", "publish/async", func(m *mutated) {
		async := m.async
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			return async(ctx, p, msg, func(err error) { done(err); done(err) })
		}
	}},
	{"sends two messages that are under way in the wrong order", "publish/async", func(m *mutated) {
		async := m.async
		var mu sync.Mutex
		var first func() error
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				kept := msg.Copy()
				first = func() error { return async(ctx, p, kept, done) }
				return nil
			}
			err := errors.Join(async(ctx, p, msg, done), first())
			first = nil
			return err
		}
	}},
	{"keeps the message of an asynchronous publish, and sends it later", "publish/async", func(m *mutated) {
		async := m.async
		var mu sync.Mutex
		var last func() error
		count := 0
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) (err error) {
			mu.Lock()
			defer mu.Unlock()
			if last != nil {
				err = last()
			}
			last = func() error { return async(ctx, p, msg, done) }
			if count++; count%200 == 0 {
				err = errors.Join(err, last())
				last = nil
			}
			return err
		}
	}},
	{"answers an asynchronous publish when it is sent, not when it is confirmed", "publish/async-outcome", func(m *mutated) {
		async := m.async
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			return async(ctx, p, msg, func(error) { done(nil) })
		}
	}},
}

// specifying is sourcing with other properties of queues that have any.
func specifying(change func(*adapters.QueueSpec)) func(*mutated) {
	return sourcing(func(s *adapters.Source) {
		if s.Queue != (adapters.QueueSpec{}) {
			change(&s.Queue)
		}
	})
}

// withoutCancel publishes whatever becomes of ctx.
func withoutCancel(m *mutated) {
	publish, async := m.publish, m.async
	m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
		return publish(context.WithoutCancel(ctx), p, msgs...)
	}
	m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
		return async(context.WithoutCancel(ctx), p, msg, done)
	}
}
