package patterns

import (
	"context"

	"github.com/motifmq/motif/adapters"
)

// Exchange publishes to an exchange as it stands: one that somebody else declared, of any type,
// such as headers or x-consistent-hash, or one of the broker's own, such as amq.headers. Where
// messages go is up to the exchange: it may look at their key, their headers ([Header], except
// those whose name begins with x-) or neither. Nothing is declared, and one that is missing is
// adapters.ErrNotFound. Adapters without adapters.CanExchange refuse it.
//
// To handle what it routes, bind a queue to it with the broker's own tools, and work on that queue
// with [Passive]:
//
//	audit := patterns.NewWorkQueue[Event](bus, "audit-eu", patterns.Passive())
//
// For exchanges that are declared by those who use them see [PubSub], [Routed] and [Topic].
type Exchange[T any] struct{ exchange[T] }

// NewExchange names an exchange that somebody else declared.
func NewExchange[T any](b *Bus, name string, opts ...ExchangeOption) *Exchange[T] {
	return &Exchange[T]{newExchange[T](b, adapters.Exchange, name, opts)}
}

// Publish sends v to whichever queues the exchange routes it to, which may be none (see
// [Mandatory]). key may be empty. nil means that the broker has it in each of these queues.
func (x *Exchange[T]) Publish(ctx context.Context, key string, v T, opts ...PublishOption) error {
	return x.as(adapters.Exchange).send(ctx, key, opts, v)
}

// PublishBatch publishes several values, as [WorkQueue.SendBatch] sends them.
func (x *Exchange[T]) PublishBatch(ctx context.Context, key string, values []T, opts ...PublishOption) error {
	return x.as(adapters.Exchange).send(ctx, key, opts, toAny(values)...)
}

// PublishItems publishes several values with options each of their own, as [WorkQueue.SendItems].
func (x *Exchange[T]) PublishItems(ctx context.Context, items []Item[T]) error {
	return sendItems(ctx, &x.as(adapters.Exchange).sender, items, nil)
}

// PublishAsync is Publish that does not wait, as [WorkQueue.SendAsync].
func (x *Exchange[T]) PublishAsync(ctx context.Context, key string, v T, opts ...PublishOption) (*Receipt, error) {
	return x.as(adapters.Exchange).sendAsync(ctx, key, opts, v)
}
