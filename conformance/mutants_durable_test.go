package conformance

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var durableMutants = []mutant{
	{"confirms messages that are in memory only", "durable/messages", changing(func(p *adapters.Publication) { p.Transient = true })},
	{"acknowledges on delivery, and is restarted", "durable/messages", ackOnDelivery},
	{"has its subscriptions end with the connection", "durable/clients-go-on", func(m *mutated) {
		restarted := restarts(m, func() {})
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			if restarted.Load() {
				return adapters.Delivery{}, adapters.ErrSessionLost
			}
			return receive(ctx, s)
		}
	}},
	{"never publishes again once it lost its connection", "durable/clients-go-on", func(m *mutated) {
		restarted := restarts(m, func() {})
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if restarted.Load() {
				return adapters.ErrUnavailable
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"keeps a group's queue, and loses its bindings", "durable/groups", func(m *mutated) {
		declare := m.declare
		var mu sync.Mutex
		var declared []adapters.Source
		m.declare = func(ctx context.Context, s adapters.Source) error {
			mu.Lock()
			defer mu.Unlock()
			declared = append(declared, s)
			return declare(ctx, s)
		}
		other := m.broker.Connect() // for this one is closed by then
		restarts(m, func() {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range declared {
				_ = other.Unbind(context.Background(), s)
			}
		})
	}},
	{"keeps what waits for its time in memory only", "durable/delayed", changing(func(p *adapters.Publication) { p.Transient = p.Delay > 0 })},
	{"delivers at a restart what waits for its time", "durable/delayed", func(m *mutated) {
		publish := m.publish
		var mu sync.Mutex
		var waiting []func() error
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if p.Delay == 0 {
				return publish(ctx, p, msgs...)
			}
			p.Delay = 0
			mu.Lock()
			defer mu.Unlock()
			waiting = append(waiting, func() error { return publish(context.WithoutCancel(ctx), p, msgs...) })
			return nil
		}
		restarts(m, func() {
			mu.Lock()
			defer mu.Unlock()
			for _, send := range waiting {
				_ = send()
			}
			waiting = nil
		})
	}},
	{"keeps dead letters in memory only", "durable/dead-letters", func(m *mutated) {
		var mu sync.Mutex
		var dead []string
		sourcing(func(s *adapters.Source) {
			mu.Lock()
			defer mu.Unlock()
			dead = append(dead, s.Queue.DeadLetter)
		})(m)
		restarts(m, func() {
			mu.Lock()
			defer mu.Unlock()
			for _, name := range dead {
				_ = m.broker.DeleteQueue(name)
			}
		})
	}},
}

// restarts calls then after each restart of the broker, and reports whether there
// was one.
func restarts(m *mutated, then func()) *atomic.Bool {
	var restarted atomic.Bool
	restart := m.harness.Restart
	m.harness.Restart = func(ctx context.Context) error {
		err := restart(ctx)
		restarted.Store(true)
		then()
		return err
	}
	return &restarted
}
