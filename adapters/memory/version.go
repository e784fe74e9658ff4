package memory

import (
	"fmt"
	"slices"

	"github.com/motifmq/motif/adapters"
)

// Version is a version of RabbitMQ, as package amqp uses it, that a [Broker] can imitate.
//
// Queues are quorum queues, unless they are private, AutoDelete, bounded with RejectPublish,
// or have a MaxPriority that the version has only classic queues for. Classic queues deliver the
// highest priority first, up to MaxPriority. What quorum queues do differs:
//
//   - 3.10: they have no priorities. A queue with a MaxPriority is a classic queue.
//   - 4.0: messages of priority 5 and up go before the others, but each third that leaves the
//     queue is the oldest. A queue with a MaxPriority is a classic queue.
//   - 4.3: the highest priority goes first, and above 31 is 31. A queue with a MaxPriority up
//     to 31 is a quorum queue, too; publishers that have declared it bound priorities, others
//     do not. Messages expire at the head of each priority.
//
// A message that is published to a queue without a MaxPriority, by a client that has declared
// it, has no priority there, and one with a Delay has none anywhere. So the order
// matters for what comes through an exchange, or from a client that does not know the queue.
//
// A dead letter says that it is redelivered, and how often (in a quorum queue), if the queue
// that it died in counts failed deliveries: with 4.0 a quorum queue, of rejects and lost sessions;
// with 4.3 any queue, of lost sessions.
//
// With 4.3 a classic queue forgets in a restart that messages were requeued. With 4.0 one that was
// purged while nobody held a message of it says of all that comes afterwards, once it was
// restarted, that it is redelivered. With both older versions one that loses transient messages in
// a restart never again says so of what comes after them; RabbitMQ 4.0 may say so if they waited
// behind others, which depends on how fast the queue was consumed. How long messages can be held
// depends on the version, too: see [ConsumerTimeout].
type Version string

// The versions that can be imitated.
const (
	RabbitMQ310 Version = "3.10"
	RabbitMQ40  Version = "4.0"
	RabbitMQ43  Version = "4.3"

	Newest = RabbitMQ43
)

var versions = []Version{RabbitMQ310, RabbitMQ40, RabbitMQ43}

// An Option says what a [Broker] imitates.
type Option struct{ set func(*Broker) }

// RabbitMQ makes a broker imitate this version, and not the [Newest]. It panics
// if the version is not one of those above.
func RabbitMQ(v Version) Option {
	if err := v.validate(); err != nil {
		panic("motif: " + err.Error())
	}
	return Option{func(b *Broker) { b.version = v }}
}

// ClassicQueues makes all queues of a broker classic queues, as the amqp
// adapter's Config.QueueType does.
func ClassicQueues() Option { return Option{func(b *Broker) { b.classic = true }} }

// Version returns the version of RabbitMQ that the broker imitates.
func (b *Broker) Version() Version { return b.version }

func (v Version) validate() error {
	if !slices.Contains(versions, v) {
		return fmt.Errorf("memory: %w: no RabbitMQ %.16q to imitate (known: %v)", adapters.ErrInvalid, string(v), versions)
	}
	return nil
}

// order is how a queue orders what waits in it.
type order uint8

const (
	classic   order = iota // priorities strictly, with original places
	fifo                   // quorum queues have what was given back first; 3.10 knows no priority,
	twoLevels              // 4.0 two that take turns,
	strict                 // 4.3 as many as there are levels
)

// topLevel is the last of 4.3, and fromHigh the first priority of the
// higher level of 4.0.
const (
	topLevel = 31
	fromHigh = 5
)

// order returns how RabbitMQ orders a queue that is shared.
func (b *Broker) order(q adapters.QueueSpec) order {
	refuses := q.MaxLength > 0 && q.Overflow == adapters.RejectPublish
	switch {
	case b.classic || q.AutoDelete || refuses:
		return classic
	case b.version == RabbitMQ43 && q.MaxPriority <= topLevel:
		return strict
	case q.MaxPriority > 0:
		return classic
	case b.version == RabbitMQ40:
		return twoLevels
	}
	return fifo
}

// level returns the level at which messages of a priority wait in a queue.
func (o order) level(priority, maxPriority uint8) uint8 {
	switch o {
	case classic:
		return min(priority, maxPriority)
	case twoLevels:
		if priority >= fromHigh {
			return 1
		}
	case strict:
		return min(priority, topLevel)
	case fifo:
	}
	return 0
}
