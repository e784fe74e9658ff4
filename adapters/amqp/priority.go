package amqp

import (
	"errors"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Priorities are for queues with a MaxPriority, and those that have none keep the order
// of publishing. RabbitMQ sees it differently, and each version in its own way: to a
// quorum queue of 4.0 to 4.2 all priorities above 4 are high, and have two turns of three;
// to one of 4.3 they are levels, from 0 to 31, whatever its arguments, and a message
// that has no priority is of level 4. So a priority is always sent, also if it
// is 0, and what is for a queue that has none has its own in a header.
//
// A queue with a MaxPriority is a quorum queue where those have levels, and a classic queue
// elsewhere. The levels of a quorum queue cannot be bounded: who publishes to it does
// that. For two declarations to differ if their MaxPriority does, it is told in an argument
// that means nothing by its exact value, the delivery limit.

// headerPriority has the priority that a message has for its receiver, where the broker
// is told another.
const headerPriority = "motif-priority"

// topLevel is the highest level of a quorum queue.
const topLevel = 31

// rememberSpec notes the properties of a queue that was just declared.
func (d *Driver) rememberSpec(queue string, q adapters.QueueSpec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.specs) >= maxKnown {
		clear(d.specs) // then priorities go as they are given, until somebody declares again
	}
	d.specs[queue] = q
}

// brokerPriority is the priority that the broker is told. What waits for its Delay has none: on its
// way through queues of the broker it would have others wait behind it.
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

// priorityQueueType is the type that a queue with a MaxPriority is declared as.
func (conn *connection) priorityQueueType(queue string, q adapters.QueueSpec) QueueType {
	conn.mu.Lock()
	_, other := conn.otherType[queue]
	conn.mu.Unlock()
	if strict := conn.version.atLeast(strictLevels) && q.MaxPriority <= topLevel; strict != other {
		return Quorum
	}
	return Classic
}

// keepOtherType reports whether a declaration of a queue with priorities failed because there is one
// of the other type, as the same driver declares it on another version of RabbitMQ: before
// an upgrade, or on another node during it. It is used as it is, from the next try on.
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
