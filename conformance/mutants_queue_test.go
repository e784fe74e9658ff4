package conformance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var queueMutants = []mutant{
	{"gives every message to all consumers", "queue/one-of-many", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if s.Kind == adapters.Queue {
				s.Endpoint = adapters.Endpoint{Kind: adapters.Fanout, Name: s.Name}
			}
			return subscribe(ctx, s)
		}
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if p.To.Kind == adapters.Queue {
				p.To.Kind = adapters.Fanout
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"fills one consumer before it turns to the next", "queue/fair-dispatch", tenTimesThePrefetch},
	{"ignores the prefetch", "queue/prefetch-holds", tenTimesThePrefetch},
	{"drops what nobody is there to receive", "queue/keeps", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if q, _ := m.broker.Queue(p.To.Name); q.Consumers == 0 {
				return nil
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"says that nothing is on its way while something is", "queue/try-receive", func(m *mutated) {
		empty := false
		m.try = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			if empty = !empty; !empty {
				return adapters.Delivery{}, adapters.ErrEmpty
			}
			return tryReceive(ctx, s)
		}
	}},
	{"waits for more", "queue/try-receive", func(m *mutated) {
		m.try = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) { return s.Receive(ctx) }
	}},
	{"gives back what was not received, and keeps what is in hand", "queue/stop-and-return", func(m *mutated) {
		m.giveAll = adapters.Subscription.Stop
	}},
	{"deals messages out in turn to consumers that are busy", "queue/slow-starves-nobody", tenTimesThePrefetch},
	{"leaves a consumer with half of its room", "queue/idle-share", sourcing(func(s *adapters.Source) { s.Prefetch = max(1, s.Prefetch/2) })},
	{"gives all that waits to the first consumer", "queue/late-joiner", tenTimesThePrefetch},
	{"sends the messages of a call in the wrong order", "queue/publisher-order", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			msgs = slices.Clone(msgs)
			slices.Reverse(msgs)
			return publish(ctx, p, msgs...)
		}
	}},
	{"acknowledges what Get takes at once", "queue/get", func(m *mutated) {
		get := m.get
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			d, err := get(ctx, s)
			if err == nil {
				err = d.Settle(ctx, adapters.Ack)
			}
			return d, err
		}
	}},
	{"does not say how many messages are left", "queue/get-in-order", receiving(func(d *adapters.Delivery) { d.Remaining = 0 })},
	{"does not tell an empty queue from a missing one", "queue/get", func(m *mutated) {
		get := m.get
		m.get = func(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
			d, err := get(ctx, s)
			if errors.Is(err, adapters.ErrEmpty) {
				err = adapters.ErrNotFound
			}
			return d, err
		}
	}},
	{"makes the queue that is to be used as it stands", "queue/passive", sourcing(func(s *adapters.Source) { s.Passive = false })},
	{"uses a queue as it stands only if it would have made it like that", "queue/passive-whatever-it-is", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			err := declare(ctx, s)
			if err == nil && s.Passive {
				s.Passive = false
				err = declare(ctx, s)
			}
			return err
		}
	}},
	{"refuses to declare what exists", "queue/redeclare", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if _, exists := m.broker.Queue(s.QueueName()); exists && !s.Passive {
				return adapters.ErrMismatch
			}
			return declare(ctx, s)
		}
	}},
	{"empties a queue that is declared again", "queue/redeclare", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			_ = m.broker.DeleteQueue(s.QueueName())
			return declare(ctx, s)
		}
	}},
	{"says nothing when a queue exists with other properties", "queue/mismatch", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if err := declare(ctx, s); !errors.Is(err, adapters.ErrMismatch) {
				return err
			}
			return nil
		}
	}},
	{"makes a queue anew with the other properties", "queue/mismatch", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			err := declare(ctx, s)
			if errors.Is(err, adapters.ErrMismatch) {
				_ = errors.Join(m.broker.DeleteQueue(s.QueueName()), declare(ctx, s))
			}
			return err
		}
	}},
	{"gives the messages of a SingleActive queue to all its consumers", "queue/single-active", sourcing(func(s *adapters.Source) { s.Queue.SingleActive = false })},
	{"gives a SingleActive queue another active consumer, and drops what the one before held", "queue/single-active", func(m *mutated) {
		var held []adapters.Delivery
		receive, closing := m.receive, m.close
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			held = append(held, d)
			return d, err
		}
		m.close = func(ctx context.Context) error {
			for _, d := range held {
				if d.Settler != nil {
					_ = d.Settle(ctx, adapters.Ack)
				}
			}
			return closing(ctx)
		}
	}},
	{"takes single messages from SingleActive queues", "queue/single-active-is-a-property", func(m *mutated) {
		m.get = func(context.Context, adapters.Source) (adapters.Delivery, error) {
			return adapters.Delivery{}, adapters.ErrEmpty
		}
	}},
	{"ignores SingleActive", "queue/single-active-is-a-property", sourcing(func(s *adapters.Source) { s.Queue.SingleActive = false })},
	{"keeps auto-delete queues", "queue/auto-delete", sourcing(func(s *adapters.Source) { s.Queue.AutoDelete = false })},
	{"deletes an auto-delete queue with the first consumer that goes", "queue/auto-delete", func(m *mutated) {
		stop := m.stop
		m.stop = func(s adapters.Subscription) error {
			err := stop(s)
			_ = m.broker.DeleteQueue(s.Address())
			return err
		}
	}},
	{"hands on what the publisher still has", "queue/isolated-from-publisher", func(m *mutated) {
		publish := m.publish
		var mu sync.Mutex
		published := map[string]*message.Message{}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for _, msg := range msgs {
				published[msg.UUID] = msg
			}
			return publish(ctx, p, msgs...)
		}
		receiving(func(d *adapters.Delivery) {
			mu.Lock()
			defer mu.Unlock()
			if msg := published[d.Message.UUID]; msg != nil {
				d.Message.Payload = msg.Payload
			}
		})(m)
	}},
	{"hands out a requeued message as its receiver left it", "queue/isolated-from-receivers", sharing},
	{"hands out a phantom when a queue is deleted", "queue/deleted-under-its-consumer", func(m *mutated) {
		deleted := deletions(m)
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			if deleted.CompareAndSwap(true, false) {
				return adapters.Delivery{Message: message.NewMessage("", nil), Settler: unheard{}}, nil
			}
			return receive(ctx, s)
		}
	}},
	{"says nothing more when its queue is deleted", "queue/deleted-under-its-consumer", func(m *mutated) {
		deleted := deletions(m)
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			if deleted.Load() {
				<-ctx.Done()
				return adapters.Delivery{}, ctx.Err()
			}
			return receive(ctx, s)
		}
	}},
}

func tenTimesThePrefetch(m *mutated) {
	subscribe := m.subscribe
	m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
		s.Prefetch *= 10
		return subscribe(ctx, s)
	}
}

// unheard is the Settler of a message that the broker knows nothing of.
type unheard struct{}

func (unheard) Settle(context.Context, adapters.Outcome) error { return nil }

// deletions reports whether a queue was deleted behind the client's back.
func deletions(m *mutated) *atomic.Bool {
	var deleted atomic.Bool
	remove := m.harness.Delete
	m.harness.Delete = func(ctx context.Context, queue string) error {
		deleted.Store(true)
		return remove(ctx, queue)
	}
	return &deleted
}
