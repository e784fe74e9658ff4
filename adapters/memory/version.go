package memory

import (
	"fmt"
	"slices"

	"github.com/motifmq/motif/adapters"
)

// Version is a version of RabbitMQ, as package amqp uses it, that a [Broker] can
// imitate. A program can notice it by the order in which a quorum queue delivers
// what waits in it:
//
//   - 3.10: the order in which it was published. A queue with MaxPriority is a
//     classic queue.
//   - 4.0: messages of priority 5 and up go before the others, but of three that
//     the queue gives away one is the oldest of all. A queue with MaxPriority is a classic queue.
//   - 4.3: the highest priority first, of 32; above 31 is 31. A queue with
//     MaxPriority is a quorum queue, too. At the head of each priority messages
//     expire; elsewhere they do at the head of the queue only.
//
// A message that is published to a queue without MaxPriority has none there, on
// all versions, for the adapter sends it without; so it is what comes through an
// exchange, or as a dead letter, that is ordered by the priority it was published with.
// And on all versions what is given back to a quorum queue goes before all others, in
// the order in which it is given back.
//
// A dead letter is delivered as redelivered if it comes from a quorum queue of 4.0, and
// was rejected or in hand when a session was lost; or from any queue of 4.3, and was in
// hand when a session was lost.
//
// Otherwise classic queues are the same in all versions: up to MaxPriority the highest
// priority first, which is none at all without MaxPriority, and what is given back has its
// original place among those of its priority. Queues are quorum queues if they are not
// private, not AutoDelete, and not bounded with RejectPublish.
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
type Option func(*Broker)

// RabbitMQ makes a broker imitate this version, and not the [Newest]. It panics
// if the version is not one of those above.
func RabbitMQ(v Version) Option {
	if err := v.validate(); err != nil {
		panic("motif: " + err.Error())
	}
	return func(b *Broker) { b.version = v }
}

// ClassicQueues makes all queues of a broker classic queues, as the amqp
// adapter's Config.QueueType does.
func ClassicQueues() Option { return func(b *Broker) { b.classic = true } }

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
