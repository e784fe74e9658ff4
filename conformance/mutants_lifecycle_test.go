package conformance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var lifecycleMutants = []mutant{
	{"fails when it is closed twice", "lifecycle/close-twice", func(m *mutated) {
		shut := m.close
		var closed atomic.Bool
		m.close = func(ctx context.Context) error {
			if closed.Swap(true) {
				return adapters.ErrClosed
			}
			return shut(ctx)
		}
	}},
	{"takes messages after it was closed", "lifecycle/after-close", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if err := publish(ctx, p, msgs...); !errors.Is(err, adapters.ErrClosed) {
				return err
			}
			return nil
		}
	}},
	{"opens a closed connection again to send", "lifecycle/after-close", func(m *mutated) {
		async := m.async
		m.async = func(ctx context.Context, p adapters.Publication, msg *message.Message, done func(error)) error {
			err := async(ctx, p, msg, done)
			if errors.Is(err, adapters.ErrClosed) {
				_ = m.broker.Connect().Publish(ctx, p, msg)
			}
			return err
		}
	}},
	{"ends with its own error when it is closed", "lifecycle/after-close", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if err := declare(ctx, s); !errors.Is(err, adapters.ErrClosed) {
				return err
			}
			return errors.New("use of closed connection")
		}
	}},
	{"leaves those waiting who wait when it is closed", "lifecycle/close-ends-receive", neverTells},
	{"takes Close for the end of one subscription", "lifecycle/close-ends-receive", func(m *mutated) {
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			if errors.Is(err, adapters.ErrClosed) {
				err = adapters.ErrStopped
			}
			return d, err
		}
	}},
	{"leaves those waiting who wait when it is stopped", "lifecycle/stop-ends-receive", neverTells},
	{"goes on after Stop", "lifecycle/stop-ends-receive", func(m *mutated) { m.stop = func(adapters.Subscription) error { return nil } }},
	{"drops what was not received when it is stopped", "lifecycle/stop-gives-back", func(m *mutated) {
		receive, stop := m.receive, m.stop
		m.stop = func(s adapters.Subscription) error {
			for {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				d, err := receive(ctx, s)
				cancel()
				if err != nil {
					return stop(s)
				}
				_ = d.Settle(context.Background(), adapters.Ack)
			}
		}
	}},
	{"keeps what was not received until it is closed", "lifecycle/stop-gives-back", func(m *mutated) {
		receive, stop := m.receive, m.stop
		m.stop = func(s adapters.Subscription) error {
			for {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				_, err := receive(ctx, s)
				cancel()
				if err != nil {
					return stop(s)
				}
			}
		}
	}},
	{"declares though ctx has ended", "lifecycle/ended-ctx", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			return errors.Join(declare(context.WithoutCancel(ctx), s), ctx.Err())
		}
	}},
	{"does not look at ctx before it waits", "lifecycle/ended-ctx", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			return subscribe(context.WithoutCancel(ctx), s)
		}
	}},
	{"has a Receive that gave up take the next message", "lifecycle/receive-gives-up", func(m *mutated) {
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			type result struct {
				d   adapters.Delivery
				err error
			}
			back := make(chan result, 1)
			go func() {
				d, err := receive(context.WithoutCancel(ctx), s)
				back <- result{d, err}
			}()
			select {
			case r := <-back:
				return r.d, r.err
			case <-ctx.Done():
				return adapters.Delivery{}, ctx.Err()
			}
		}
	}},
	{"ends a subscription with the ctx of Subscribe", "lifecycle/subscribe-ctx", func(m *mutated) {
		subscribe, receive := m.subscribe, m.receive
		var mu sync.Mutex
		lives := map[adapters.Subscription]context.Context{}
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			sub, err := subscribe(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			lives[sub] = ctx
			return sub, err
		}
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			mu.Lock()
			defer mu.Unlock()
			if err := lives[s].Err(); err != nil {
				return adapters.Delivery{}, err
			}
			return receive(ctx, s)
		}
	}},
	{"waits in Close for what is in hand", "lifecycle/close-in-hand", func(m *mutated) {
		receive, settle, shut := m.receive, m.settle, m.close
		var held atomic.Int32
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			if err == nil {
				held.Add(1)
			}
			return d, err
		}
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			held.Add(-1)
			return settle(ctx, d, o)
		}
		m.close = func(ctx context.Context) error {
			for held.Load() > 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			return errors.Join(ctx.Err(), shut(context.WithoutCancel(ctx)))
		}
	}},
	{"leaves a goroutine behind for each subscription", "lifecycle/close-in-hand", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			go func() { <-m.run.Done() }()
			return subscribe(ctx, s)
		}
	}},
	{"waits in Declare for a frozen broker", "lifecycle/frozen", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error { return declare(context.WithoutCancel(ctx), s) }
	}},
	{"waits in Close for a frozen broker", "lifecycle/frozen", func(m *mutated) {
		freeze, shut := m.harness.Freeze, m.close
		thawed := make(chan struct{})
		var frozen atomic.Bool
		m.harness.Freeze = func(ctx context.Context) (func() error, error) {
			thaw, err := freeze(ctx)
			frozen.Store(true)
			return func() error {
				close(thawed)
				return thaw()
			}, err
		}
		m.close = func(ctx context.Context) error {
			if frozen.Load() {
				<-thawed
			}
			return shut(ctx)
		}
	}},
	{"is closed, and leaves a publish waiting", "lifecycle/frozen", withoutClose},
}

// neverTells has a Receive that waits hear of nothing but its ctx and messages.
func neverTells(m *mutated) {
	receive := m.receive
	m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
		d, err := receive(ctx, s)
		if err != nil {
			<-ctx.Done()
			return adapters.Delivery{}, ctx.Err()
		}
		return d, nil
	}
}

// withoutClose has a publish wait for its answer, and then for ctx.
func withoutClose(m *mutated) {
	publish := m.publish
	m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
		err := publish(ctx, p, msgs...)
		if err != nil {
			<-ctx.Done()
		}
		return err
	}
}
