package conformance

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// What many mutants do.

// changing publishes something else.
func changing(change func(*adapters.Publication)) func(*mutated) {
	return func(m *mutated) {
		publish, async := m.publish, m.async
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			change(&p)
			return publish(ctx, p, msgs...)
		}
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			change(&p)
			return async(ctx, p, msg, done)
		}
	}
}

// rewriting publishes messages that are changed copies.
func rewriting(change func(adapters.Publication, *message.Message)) func(*mutated) {
	return func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			copies := make([]*message.Message, len(msgs))
			for i, msg := range msgs {
				copies[i] = msg.Copy()
				change(p, copies[i])
			}
			return publish(ctx, p, copies...)
		}
		async := m.async
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			changed := msg.Copy()
			change(p, changed)
			return async(ctx, p, changed, done)
		}
	}
}

// dropping loses the publications that are to be lost, and says that it has them.
func dropping(lose func(adapters.Publication) bool) func(*mutated) {
	return func(m *mutated) {
		publish, async := m.publish, m.async
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if lose(p) {
				return nil
			}
			return publish(ctx, p, msgs...)
		}
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			if lose(p) {
				done(nil)
				return nil
			}
			return async(ctx, p, msg, done)
		}
	}
}

// receiving makes something else of what is delivered.
func receiving(change func(*adapters.Delivery)) func(*mutated) {
	return func(m *mutated) {
		receive, get := m.receive, m.get
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			if err == nil {
				change(&d)
			}
			return d, err
		}
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			d, err := get(ctx, s)
			if err == nil {
				change(&d)
			}
			return d, err
		}
	}
}

// sourcing declares and subscribes to something else.
func sourcing(change func(*adapters.Source)) func(*mutated) {
	return func(m *mutated) {
		declare, subscribe, get := m.declare, m.subscribe, m.get
		m.declare = func(ctx context.Context, s adapters.Source) error {
			change(&s)
			return declare(ctx, s)
		}
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			change(&s)
			return subscribe(ctx, s)
		}
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			change(&s)
			return get(ctx, s)
		}
	}
}

// both is two faults at once.
func both(faults ...func(*mutated)) func(*mutated) {
	return func(m *mutated) {
		for _, fault := range faults {
			fault(m)
		}
	}
}
