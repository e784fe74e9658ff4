package patterns

import (
	"fmt"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// OrderBy has a subscription handle messages that have the same key one after another, in the order
// in which the queue has them, and those of different keys at the same time, on all [Workers]:
//
//	sub, err := moves.Work(ctx, play, patterns.OrderBy(func(m Move) string { return m.Game }), patterns.Workers(16))
//
// A message waits until the one before it with its key is settled, without holding a worker:
// meanwhile the workers handle other keys, as far ahead as [Prefetch] reaches, which is four times
// as many messages as there are workers, at least 32, if it is not given. If a handler fails, its
// message keeps its place, and those of its key wait while it waits to be tried again: in the
// process, as with RetryPolicy.InProcess. See [OvertakeRetries] for the alternative. What is given
// up lets those behind it pass.
//
// This holds within one subscription. Where several subscriptions share a queue, be it in one
// process or in several, each has an order of its own.
//
// The key is that of the value as it was published: middleware has no part in it. A payload that
// does not decode, and one for which key panics, is rejected when its turn comes. key is called by
// several workers at a time. It must not change the value, which the handler gets. The messages
// whose key is "" are in order, too.
//
// Messages that wait are held, and the broker limits for how long: see [HandlerTimeout]. They are
// given back in order when the subscription is stopped and its handlers have returned. A handler
// that is still running when its session is lost keeps those of its key waiting, though they have
// been delivered again. A broker that has not noticed yet that a connection is lost delivers what
// comes later first, which [Partitions] rule out.
//
// [LossLimit] works in another way, see there. OrderBy cannot be combined with [WithGate]. T has to
// be the type of the subscription's messages. An adapter without CanRequeue refuses it: what comes
// back would lose its place.
func OrderBy[T any](key func(T) string) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if key == nil {
			return invalid("OrderBy of nil")
		}
		if c.order != nil {
			return givenTwice("OrderBy")
		}
		c.order = orderBy[T](key)
		return nil
	}}
}

// OvertakeRetries lets messages with the key of one that is to be tried again pass it, where
// [OrderBy] would have them wait: it waits at the broker, as it does without OrderBy, and comes
// again behind what was in the queue by then.
func OvertakeRetries() FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		return setOnce("OvertakeRetries", &c.overtake, true)
	}}
}

// keyOf is the type of [OrderBy]'s function, whatever its T.
type keyOf interface {
	// of returns the key of a message, and a pointer to its value, which is nil if it has to be
	// decoded again for the handler.
	of(c *codecs, d *adapters.Delivery) (key string, value any, err error)
}

type orderBy[T any] func(T) string

func (f orderBy[T]) of(c *codecs, d *adapters.Delivery) (key string, value any, err error) {
	v, m := new(T), d.Message
	if c.isPlain() {
		value = v
		err = c.unmarshal(d.ContentType, d.ContentEncoding, m.Payload, v)
	} else {
		content := Content{ID: m.UUID, Type: d.Type, ContentType: d.ContentType, Headers: m.Metadata, Payload: m.Payload}
		err = c.open(&content, d.ContentEncoding, v)
	}
	if err != nil {
		return "", nil, Reject(err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = Reject(&PanicError{Value: p, Stack: debug.Stack()})
		}
	}()
	return f(*v), value, nil
}

// checkOrder refuses an OrderBy of messages of another type.
func checkOrder[T any](c *consumeConfig) error {
	if _, ok := c.order.(orderBy[T]); c.order != nil && !ok {
		return invalid("OrderBy of messages of another type: here they are of type %T", *new(T))
	}
	return nil
}

// canKeepOrder refuses an OrderBy where what comes back loses its place. That of a queue with a
// single active consumer, as a partition is, keeps it.
func (b *Bus) canKeepOrder(cfg consumeConfig, src adapters.Source) error {
	if cfg.order == nil || src.Queue.SingleActive {
		return nil
	}
	err := b.features.Require(adapters.CanRequeue)
	if err != nil && b.features.Ability.Has(adapters.CanSingleActive) {
		return fmt.Errorf("%w: what comes back would lose its place, and OrderBy the order of its key; a work queue with Partitions keeps it", err)
	}
	return err
}

// minOrderPrefetch is enough for one worker to find something to do beside a few keys that wait.
const minOrderPrefetch = 32

const maxPrefetch = 1<<16 - 1 // as ValidateSubscribe has it

func defaultOrderPrefetch(workers int) int {
	return max(workers, min(max(4*workers, minOrderPrefetch), maxPrefetch))
}

// orderedValue returns what was decoded for the key, for the first attempt, unless middleware
// replaced the payload: then it is nil. The error is the message's.
func orderedValue[T any](m *message.Message) (*T, error) {
	c, ok := m.Context().Value(deliveryKey{}).(*deliveryContext)
	if !ok {
		return nil, nil
	}
	it, isOrdered := c.d.Settler.(*orderedItem)
	if !isOrdered {
		return nil, nil
	}
	decoded, _ := it.value.(*T)
	it.value = nil // a handler may change it, and be called again
	if it.err != nil || decoded == nil || !sameBytes(m.Payload, it.payload) {
		return nil, it.err
	}
	return decoded, nil
}

// sameBytes reports whether a and b are the same bytes in memory.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
