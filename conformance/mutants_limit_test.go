package conformance

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var limitMutants = []mutant{
	{"lets lasting messages expire", "limit/lasting", changing(func(p *adapters.Publication) { p.Lasting = false })},
	{"forgets the time to live of lasting messages", "limit/lasting", changing(func(p *adapters.Publication) {
		if p.Lasting {
			p.TTL = 0
		}
	})},
	{"takes no notice of a message's time to live", "limit/ttl", changing(func(p *adapters.Publication) { p.TTL = 0 })},
	{"has every message expire when the first one does", "limit/ttl", changing(func(p *adapters.Publication) {
		if p.TTL > 0 {
			p.TTL = brief
		}
	})},
	{"does not report the time to live", "limit/ttl", receiving(func(d *adapters.Delivery) { d.TTL = 0 })},
	{"has a message live for its own time where its queue's is shorter", "limit/ttl-of-a-queue", specifying(func(q *adapters.QueueSpec) { q.MessageTTL = 0 })},
	{"has a message live for its queue's time where its own is shorter", "limit/ttl-of-a-queue", changing(func(p *adapters.Publication) { p.TTL = 0 })},
	{"drops what expires where there are dead letters", "limit/expired-to-dead-letters", specifying(func(q *adapters.QueueSpec) { q.DeadLetter = "" })},
	{"delivers a delayed message at once", "limit/delay", changing(func(p *adapters.Publication) { p.Delay = 0 })},
	{"shortens delays", "limit/delay", changing(func(p *adapters.Publication) { p.Delay /= 2 })},
	{"loses the key of a delayed message", "limit/delay", changing(func(p *adapters.Publication) {
		if p.Delay > 0 {
			p.Key = ""
		}
	})},
	{"drops nothing that is not unique", "limit/unique", changing(func(p *adapters.Publication) { p.UniqueFor = 0 })},
	{"has what is unique be so forever", "limit/unique", changing(func(p *adapters.Publication) {
		if p.UniqueFor > 0 {
			p.UniqueFor = time.Hour
		}
	})},
	{"has what is unique be so for a moment", "limit/unique", changing(func(p *adapters.Publication) { p.UniqueFor = min(p.UniqueFor, 1) })},
	{"drops what is not unique itself", "limit/unique", changing(func(p *adapters.Publication) { p.UniqueFor = max(p.UniqueFor, 1) })},
	{"has messages be unique in all queues", "limit/unique", remembering(func(_ adapters.Publication, id string, _ error) string { return id })},
	{"remembers what it has refused", "limit/unique", remembering(func(p adapters.Publication, id string, err error) string {
		if err == nil {
			return ""
		}
		return p.To.Name + id
	})},
	{"refuses what is not unique", "limit/unique", func(m *mutated) {
		publish := m.publish
		var mu sync.Mutex
		known := map[string]bool{}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for i, msg := range msgs {
				key := p.To.Name + msg.UUID
				if p.UniqueFor > 0 && known[key] {
					return &adapters.PublishError{Failed: []adapters.FailedMessage{{Index: i, UUID: msg.UUID, Err: adapters.ErrNacked}}}
				}
				known[key] = true
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"says that it cancelled, and does not", "limit/cancel", func(m *mutated) {
		cancel := m.cancel
		m.cancel = func(ctx context.Context, to adapters.Endpoint, id string) error {
			if id == "cancelled" {
				return nil
			}
			return cancel(ctx, to, id)
		}
	}},
	{"cancels what it does not know", "limit/cancel", func(m *mutated) {
		cancel := m.cancel
		m.cancel = func(ctx context.Context, to adapters.Endpoint, id string) error {
			if err := cancel(ctx, to, id); id != "unknown" {
				return err
			}
			return nil
		}
	}},
	{"cancels all messages to a queue", "limit/cancel", func(m *mutated) {
		cancel := m.cancel
		m.cancel = func(ctx context.Context, to adapters.Endpoint, id string) error {
			_ = cancel(ctx, to, "first")
			return cancel(ctx, to, id)
		}
	}},
	{"cancels by id, whatever the queue", "limit/cancel", func(m *mutated) {
		cancel, declare := m.cancel, m.subscribe
		var mu sync.Mutex
		var all []adapters.Endpoint
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, s.Endpoint)
			return declare(ctx, s)
		}
		m.cancel = func(ctx context.Context, _ adapters.Endpoint, id string) error {
			mu.Lock()
			defer mu.Unlock()
			err := adapters.ErrNotFound
			for _, to := range all {
				if cancel(ctx, to, id) == nil {
					err = nil
				}
			}
			return err
		}
	}},
	{"cancels what waits in the queue", "limit/cancel", func(m *mutated) {
		cancel := m.cancel
		m.cancel = func(ctx context.Context, to adapters.Endpoint, id string) error {
			if err := cancel(ctx, to, id); id != "waits" {
				return err
			}
			return nil
		}
	}},
	{"keeps delayed messages in a queue, where one waits behind another", "limit/delays-by-due-time", func(m *mutated) {
		var mu sync.Mutex
		var most time.Duration
		changing(func(p *adapters.Publication) {
			mu.Lock()
			defer mu.Unlock()
			if p.Delay > 0 {
				most = max(most, p.Delay)
				p.Delay = most
			}
		})(m)
	}},
	{"routes a delayed message when it is published", "limit/delay-to-an-exchange", func(m *mutated) {
		publish, subscribe, receive := m.publish, m.subscribe, m.receive
		var mu sync.Mutex
		delayed, late := map[string]bool{}, map[adapters.Subscription]map[string]bool{}
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			sub, err := subscribe(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			late[sub] = maps.Clone(delayed)
			return sub, err
		}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for _, msg := range msgs {
				delayed[msg.UUID] = p.Delay > 0
			}
			return publish(ctx, p, msgs...)
		}
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			for {
				d, err := receive(ctx, s)
				if err != nil || !late[s][d.Message.UUID] {
					return d, err
				}
				_ = d.Settle(ctx, adapters.Ack)
			}
		}
	}},
	{"takes no notice of priorities", "limit/priority", changing(func(p *adapters.Publication) { p.Priority = 0 })},
	{"knows only two priorities", "limit/priority", changing(func(p *adapters.Publication) { p.Priority = min(p.Priority, 1) })},
	{"takes no notice of the highest priority of a queue", "limit/max-priority", specifying(func(q *adapters.QueueSpec) { q.MaxPriority = 255 })},
	{"gives every queue priorities", "limit/max-priority", sourcing(func(s *adapters.Source) {
		if s.Kind == adapters.Queue {
			s.Queue.MaxPriority = max(s.Queue.MaxPriority, 10)
		}
	})},
	{"reports only the priority that counts", "limit/max-priority", receiving(func(d *adapters.Delivery) { d.Priority = min(d.Priority, 3) })},
	{"drops the newest message of a full queue", "limit/drop-head", func(m *mutated) {
		specifying(func(q *adapters.QueueSpec) { q.Overflow = adapters.RejectPublish })(m)
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			_ = publish(ctx, p, msgs...)
			return nil
		}
	}},
	{"has publishers notice that a queue dropped something", "limit/drop-head", specifying(func(q *adapters.QueueSpec) { q.Overflow = adapters.RejectPublish })},
	{"takes no notice of a queue's length", "limit/drop-head", specifying(func(q *adapters.QueueSpec) { q.MaxLength = 0 })},
	{"drops what does not fit where there are dead letters", "limit/dropped-to-dead-letters", specifying(func(q *adapters.QueueSpec) { q.DeadLetter = "" })},
}

// remembering drops unique messages whose key, as it was when one was published, comes again. One
// whose key is "" is not remembered.
func remembering(keyOf func(adapters.Publication, string, error) string) func(*mutated) {
	var mu sync.Mutex
	known := map[string]bool{}
	return func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for _, msg := range msgs {
				if p.UniqueFor > 0 && (known[keyOf(p, msg.UUID, nil)] || known[p.To.Name+msg.UUID]) {
					continue
				}
				err := publish(ctx, p, msg)
				if key := keyOf(p, msg.UUID, err); p.UniqueFor > 0 && key != "" {
					known[key] = true
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
}
