package amqp

import (
	"errors"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// In Motif priorities are for queues with a MaxPriority; all others keep the order of publishing.
// RabbitMQ's versions differ. In a quorum queue of 4.0 to 4.2 all priorities above 4 are high, and
// get two turns out of three. In one of 4.3 they are levels from 0 to 31, whatever the queue's
// arguments, and a message without a priority has level 4. So a priority is always sent, even if it
// is 0, and a message to a queue without priorities carries its own in a header.
//
// A queue with a MaxPriority is a quorum queue where those have levels, and a classic queue
// elsewhere. The levels of a quorum queue cannot be bounded, so publishers bound them. For two
// declarations with different MaxPriority to differ, the delivery limit encodes it, whose exact
// value does not matter.

// headerPriority is the priority for the receiver, if the broker is sent another.
const headerPriority = "motif-priority"

// topLevel is the highest level of a quorum queue.
const topLevel = 31

// rememberSpec remembers the properties of a queue that was declared.
func (d *Driver) rememberSpec(queue string, q adapters.QueueSpec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.specs) >= maxKnown {
		clear(d.specs) // until somebody declares again, priorities are sent as they are
	}
	d.specs[queue] = q
}

// brokerPriority returns the priority that the broker is sent. A delayed message has none: in the
// broker's queues on its way others would have to wait behind it.
func (d *Driver) brokerPriority(p *adapters.Publication) uint8 {
	switch {
	case p.Priority == 0 || p.Delay > 0:
		return 0
	case p.To.Kind != adapters.Queue:
		return p.Priority
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if q, known := d.specs[p.To.Name]; known {
		return min(p.Priority, q.MaxPriority)
	}
	return p.Priority
}

// priorityQueueType returns the type that a queue with a MaxPriority is declared as.
func (conn *connection) priorityQueueType(queue string, q adapters.QueueSpec) QueueType {
	conn.mu.Lock()
	_, other := conn.otherType[queue]
	conn.mu.Unlock()
	if strict := conn.version.atLeast(strictLevels) && q.MaxPriority <= topLevel; strict != other {
		return Quorum
	}
	return Classic
}

// keepOtherType reports whether the declaration of a queue with priorities failed because it exists
// with the other type, as the same driver declares it on another version of RabbitMQ: before an
// upgrade, or on another node during one. From the next attempt on it is used as it is.
func (conn *connection) keepOtherType(queue string, q adapters.QueueSpec, err error) bool {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok || e.Code != amqp091.PreconditionFailed || q.MaxPriority == 0 || conn.supervisor.driver.cfg.queueType(q) == Classic ||
		!strings.Contains(e.Reason, "inequivalent arg 'x-queue-type'") && !strings.Contains(e.Reason, "inequivalent arg 'x-max-priority'") {
		return false
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if _, tried := conn.otherType[queue]; tried {
		delete(conn.otherType, queue)
		return false
	}
	if len(conn.otherType) >= maxKnown {
		clear(conn.otherType)
	}
	conn.otherType[queue] = struct{}{}
	return true
}
