package memory

import (
	"sync"

	"github.com/motifmq/motif/adapters"
)

// maxPriorities is the MaxPriority of the queues that a client has declared: what the amqp adapter
// knows of the queues it publishes to.
type maxPriorities struct {
	mu      sync.Mutex
	byQueue map[string]uint8
}

const maxKnownQueues = 1024

// declare is the broker's declare, and notes what the client learns by it. The control lock is
// held.
func (c *Client) declare(s adapters.Source) (*queue, error) {
	q, err := c.broker.declare(s)
	if err == nil && !s.Passive && !s.Private() {
		c.maxPriorities.learn(s.QueueName(), s.Queue.MaxPriority)
		if s.Queue.DeadLetter != "" {
			c.maxPriorities.learn(s.Queue.DeadLetter, 0)
		}
	}
	return q, err
}

func (m *maxPriorities) learn(queue string, priority uint8) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byQueue == nil || len(m.byQueue) >= maxKnownQueues {
		m.byQueue = make(map[string]uint8)
	}
	m.byQueue[queue] = priority
}

// priority returns the priority that RabbitMQ would be told. A delayed message has none.
func (c *Client) priority(p *adapters.Publication) uint8 {
	switch {
	case p.Priority == 0 || p.Delay > 0:
		return 0
	case p.To.Kind != adapters.Queue:
		return p.Priority
	}
	c.maxPriorities.mu.Lock()
	defer c.maxPriorities.mu.Unlock()
	if most, known := c.maxPriorities.byQueue[p.To.Name]; known {
		return min(p.Priority, most)
	}
	return p.Priority
}
