package memory

import (
	"sync"

	"github.com/motifmq/motif/adapters"
)

// highest is the MaxPriority of the queues that a client has declared: what the amqp adapter knows
// of the queues it publishes to.
type highest struct {
	mu      sync.Mutex
	byQueue map[string]uint8
}

const maxKnown = 1024

// declare is the broker's declare, and notes what the client learns by it. The control lock is
// held.
func (c *Client) declare(s adapters.Source) (*queue, error) {
	q, err := c.broker.declare(s)
	if err == nil && !s.Passive && !s.Private() {
		c.highest.learn(s.QueueName(), s.Queue.MaxPriority)
		if s.Queue.DeadLetter != "" {
			c.highest.learn(s.Queue.DeadLetter, 0)
		}
	}
	return q, err
}

func (h *highest) learn(queue string, priority uint8) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byQueue == nil || len(h.byQueue) >= maxKnown {
		h.byQueue = make(map[string]uint8)
	}
	h.byQueue[queue] = priority
}

// priority returns the priority that RabbitMQ would be told. A delayed message has none.
func (c *Client) priority(p *adapters.Publication) uint8 {
	switch {
	case p.Priority == 0 || p.Delay > 0:
		return 0
	case p.To.Kind != adapters.Queue:
		return p.Priority
	}
	c.highest.mu.Lock()
	defer c.highest.mu.Unlock()
	if most, known := c.highest.byQueue[p.To.Name]; known {
		return min(p.Priority, most)
	}
	return p.Priority
}
