package patterns

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

// maxPartitions bounds [Partitions]: each process has a consumer for every one.
const maxPartitions = 256

// partitionPrefetch is the prefetch for each partition. It does not depend on the number of workers
// as that of other subscriptions does, because a process that takes a partition over must be able
// to hold all that the one before held. Else a part of it waits at the broker, and what the second
// one gives back goes behind that, in a quorum queue.
const partitionPrefetch = 64

// Partitions keeps the order of messages that have the same key in whatever process they are
// handled:
//
//	moves := patterns.NewWorkQueue[Move](bus, "moves", patterns.Partitions(8, func(m Move) string { return m.Game }))
//
// The queue is n queues in truth, its partitions, "moves.p0" to "moves.p7". All messages of a key
// are in the same one (see [PartitionOf]), and the broker gives the messages of a partition to one
// process at a time, the active one. There they are handled as with [OrderBy], whose rules hold,
// those for retries too: one after another for each key, and different keys at the same time.
// [Workers] is for all partitions together, [Prefetch] for each (64 without it): it must not be
// smaller in one process than in another. The dead letters of all are in one
// queue, "moves.dead", and [WorkQueue.Redrive] sends each back to its partition.
//
// When a process goes, however it does, the others take its partitions over, first with what it
// had not settled, in order. When one comes, those that have more than their share leave the rest
// to others within seconds, each partition as soon as nothing of it is in hand. What order means
// where a connection is lost while a handler runs is in docs/order.md.
//
// Every process has to give the same n. One that gives a smaller one is refused (ErrMismatch) when
// there is a partition beyond it, for as long as that exists. Before n is changed the queue should
// be empty: keys change their partitions with it.
//
// key is called by Send, too. It must come to the same for a value as it was sent and as it is
// received, must not change it, and is called by several goroutines at a time. Get, TryGet, Waiting
// and WorkBatch cannot be used, nor can Passive, [OrderBy], [AckOnReceive] or [WithGate]. n is 1 to
// 256. T has to be the type of the queue's messages.
func Partitions[T any](n int, key func(T) string) WorkQueueOption {
	return partitionOption(func(c *queueConfig) error {
		switch {
		case n < 1 || n > maxPartitions:
			return invalid("Partitions(%d), 1 to %d are possible", n, maxPartitions)
		case key == nil:
			return invalid("Partitions with a nil function")
		case c.partitions != 0:
			return givenTwice("Partitions")
		}
		c.partitions, c.partitionKey, c.spec.SingleActive = n, orderBy[T](key), true
		return nil
	})
}

type partitionOption func(*queueConfig) error

func (o partitionOption) applyQueue(c *queueConfig) error { return o(c) }

// PartitionOf returns in which of n partitions the messages with a key are, 0 to n-1: the FNV-1a
// hash of the key with 64 bits, of which the upper half is XORed into the lower one, modulo n.
func PartitionOf(key string, n int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	sum := h.Sum64()
	return int(uint32(sum>>32^sum) % uint32(n))
}

// partitionName returns the name of a partition of a queue.
func partitionName(queue string, i int) string { return queue + ".p" + strconv.Itoa(i) }

// partitionKey is the type of [Partitions]'s function, whatever its T.
type partitionKey interface {
	keyOf

	// ofValue returns the key of a value that is to be sent.
	ofValue(v any) (key string, err error)
}

func (f orderBy[T]) ofValue(v any) (key string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the function of Partitions: %w", &PanicError{Value: p, Stack: debug.Stack()})
		}
	}()
	typed, _ := v.(T) // it may be a nil interface
	return f(typed), nil
}

// partitions are what a queue is split into.
type partitions struct {
	queue   string
	key     partitionKey
	senders []sender // to each
	checked atomic.Bool
}

// checkPartitions returns what is wrong with the partitions of a queue of T.
func checkPartitions[T any](c *queueConfig, queue string) error {
	if c.partitions == 0 {
		return nil
	}
	switch _, ok := c.partitionKey.(orderBy[T]); {
	case !ok:
		return invalid("Partitions of messages of another type: here they are of type %T", *new(T))
	case c.passive:
		return invalid("Passive and Partitions")
	case strings.HasSuffix(queue, deadSuffix):
		return invalid("Partitions of a queue of dead letters: %q", clip(queue, 64))
	}
	last := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: partitionName(queue, c.partitions-1)}}
	return last.Validate()
}

func newPartitions(s sender, n int, key partitionKey) *partitions {
	p := &partitions{queue: s.source.Name, key: key, senders: make([]sender, n)}
	for i := range p.senders {
		part := s
		part.to.Name = partitionName(p.queue, i)
		part.source.Name = part.to.Name
		part.partitions = p
		p.senders[i] = part
	}
	return p
}

// of returns the sender to the partition of a value.
func (p *partitions) of(v any) (*sender, error) {
	key, err := p.key.ofValue(v)
	if err != nil {
		return nil, err
	}
	return &p.senders[PartitionOf(key, len(p.senders))], nil
}

// check refuses a number of partitions that is smaller than what there is: nobody would handle the
// rest, and keys would be in two partitions.
func (p *partitions) check(ctx context.Context, b *Bus) error {
	inspector, ok := b.driver.(adapters.Inspector)
	if p.checked.Load() || !ok || !b.features.Ability.Has(adapters.CanInspect) {
		return nil
	}
	next := partitionName(p.queue, len(p.senders))
	switch _, err := inspector.Inspect(ctx, next); {
	case err == nil:
		return fmt.Errorf("%w: queue %q has more than %d partitions: there is %q (to have fewer of them, let them run empty, and delete those that are too many)",
			adapters.ErrMismatch, clip(p.queue, 64), len(p.senders), clip(next, 64))
	case !errors.Is(err, adapters.ErrNotFound) && !errors.Is(err, adapters.ErrAccess): // who may only send need not be allowed to look
		return err
	}
	p.checked.Store(true)
	return nil
}

// declare makes all partitions exist.
func (p *partitions) declare(ctx context.Context, b *Bus) error {
	if err := p.check(ctx, b); err != nil {
		return err
	}
	return eachPartition(len(p.senders), func(i int) error { return b.driver.Declare(ctx, p.senders[i].source) })
}

// errUnordered is for verbs that know nothing of order.
func (p *partitions) errUnordered(verb string) error {
	if p == nil {
		return nil
	}
	return invalid("%s with a queue that has Partitions: only Work keeps their order", verb)
}

// checkShared refuses options that say of each of n messages what can be so of one only.
func checkShared(opts []PublishOption, n int) error {
	var given publishConfig
	if err := apply(opts, func(o PublishOption) error { return o.applyPublish(&given) }); err != nil {
		return err
	}
	if given.id != "" || given.received != nil {
		return invalid("one message id for %d messages", n)
	}
	return nil
}
