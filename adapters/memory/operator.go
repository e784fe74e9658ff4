package memory

import (
	"fmt"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// QueueInfo is the content of a queue at one moment.
type QueueInfo struct {
	Ready     int // messages that wait for a consumer with room
	Unacked   int // messages that consumers hold: in hand, or not received yet
	Consumers int
	Bindings  int
}

// Queue returns what is in a queue, or false if there is none of that name. The name of a private
// queue or reply address is its subscription's Address.
func (b *Broker) Queue(name string) (QueueInfo, bool) {
	b.control.Lock()
	defer b.control.Unlock()
	q := b.routes.queues[name]
	if q == nil {
		q = b.routes.replies[name]
	}
	if q == nil {
		return QueueInfo{}, false
	}
	q.mu.Lock()
	defer q.unlock()
	return QueueInfo{Ready: q.ready.n, Unacked: q.unacked, Consumers: len(q.consumers), Bindings: len(q.bindings)}, true
}

// Purge drops the messages of a queue that no consumer holds, and returns how many they were. If
// there is no such queue, the error wraps ErrNotFound.
func (b *Broker) Purge(name string) (int, error) {
	b.control.Lock()
	defer b.control.Unlock()
	q := b.routes.queues[name]
	if q == nil {
		return 0, notFound("queue", name)
	}
	return q.purge(), nil
}

// DeleteQueue deletes a queue with its bindings and all that is in it. Settling what was in hand
// then has no effect. Its subscriptions declare it again before DeleteQueue returns, unless a
// [Fault] keeps them from it; passive ones end with ErrNotFound. If there is no such queue, the
// error wraps ErrNotFound.
func (b *Broker) DeleteQueue(name string) error {
	b.control.Lock()
	defer b.control.Unlock()
	q := b.routes.queues[name]
	if q == nil {
		return notFound("queue", name)
	}
	b.deleteQueue(q)
	return nil
}

func (b *Broker) deleteQueue(q *queue) {
	for _, s := range b.remove(q) {
		s.restore()
	}
}

// DeleteExchange deletes an exchange with all bindings to it. Subscriptions go on, but nothing
// reaches them through it until it is declared and bound again. If there is no such exchange, the
// error wraps ErrNotFound, and for one of the broker's own, whose name begins with amq., ErrAccess.
func (b *Broker) DeleteExchange(name string) error {
	b.control.Lock()
	defer b.control.Unlock()
	if b.routes.exchanges[name] == nil {
		return notFound("exchange", name)
	}
	if strings.HasPrefix(name, "amq.") {
		return fmt.Errorf("memory: exchange %q belongs to the broker: %w", name, adapters.ErrAccess)
	}
	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	for _, q := range b.routes.queues {
		for binding := range q.bindings {
			if binding.exchange == name {
				b.routes.unbind(q, binding)
			}
		}
	}
	delete(b.routes.exchanges, name)
	return nil
}

func notFound(what, name string) error {
	return fmt.Errorf("memory: no %s %q: %w", what, name, adapters.ErrNotFound)
}
