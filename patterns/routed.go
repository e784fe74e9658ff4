package patterns

import (
	"context"

	"github.com/motifmq/motif/adapters"
)

// Routed copies each message to the subscribers that asked for exactly its
// key.
type Routed[T any] struct{ exchange[T] }

// NewRouted names a direct exchange on b. Nothing is declared yet.
func NewRouted[T any](b *Bus, name string, opts ...ExchangeOption) *Routed[T] {
	return &Routed[T]{newExchange[T](b, adapters.Direct, name, opts)}
}

// Publish sends v to whoever asked for key, which may be nobody (see
// [Mandatory]). nil means that the broker has it in the queue of each.
func (r *Routed[T]) Publish(ctx context.Context, key string, v T, opts ...PublishOption) error {
	return r.as(adapters.Direct).send(ctx, key, opts, v)
}

// PublishBatch publishes several values, as [WorkQueue.SendBatch] sends them.
func (r *Routed[T]) PublishBatch(ctx context.Context, key string, values []T, opts ...PublishOption) error {
	return r.as(adapters.Direct).send(ctx, key, opts, toAny(values)...)
}

// PublishItems publishes several values with options each of their own, as [WorkQueue.SendItems].
func (r *Routed[T]) PublishItems(ctx context.Context, items []Item[T]) error {
	return sendItems(ctx, &r.as(adapters.Direct).sender, items, nil)
}

// PublishAsync is Publish that does not wait, as [WorkQueue.SendAsync].
func (r *Routed[T]) PublishAsync(ctx context.Context, key string, v T, opts ...PublishOption) (*Receipt, error) {
	return r.as(adapters.Direct).sendAsync(ctx, key, opts, v)
}

// Subscribe calls handler with a copy of each message that has one of
// keys, until ctx ends. The keys of a group add up over time, see Unbind.
func (r *Routed[T]) Subscribe(ctx context.Context, keys []string, handler Handler[T], opts ...SubscribeOption) (*Subscription, error) {
	return r.as(adapters.Direct).subscribe(ctx, keys, handler, opts)
}

// SubscribeBatch is Subscribe of a handler of several values at a time, as [WorkQueue.WorkBatch].
func (r *Routed[T]) SubscribeBatch(ctx context.Context, keys []string, handler BatchHandler[T], opts ...SubscribeBatchOption) (*Subscription, error) {
	return r.as(adapters.Direct).subscribeBatch(ctx, keys, handler, opts)
}

// Declare makes the exchange exist, and with [Group] also the group and its
// queue, so that it misses nothing that is published before its first member comes.
func (r *Routed[T]) Declare(ctx context.Context, keys []string, opts ...SubscribeOption) error {
	return r.as(adapters.Direct).declare(ctx, keys, opts)
}

// Unbind takes keys from a group. What is in its queue stays.
func (r *Routed[T]) Unbind(ctx context.Context, group string, keys ...string) error {
	return r.as(adapters.Direct).unbind(ctx, keys, group)
}
