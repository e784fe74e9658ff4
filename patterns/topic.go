package patterns

import (
	"context"

	"github.com/motifmq/motif/adapters"
)

// Topic copies each message to the subscribers whose patterns match its key:
// words between dots, where * stands for one word and # for any number. The rules
// are those of [adapters.MatchTopic].
type Topic[T any] struct{ exchange[T] }

// NewTopic names a topic exchange on b. Nothing is declared yet.
func NewTopic[T any](b *Bus, name string, opts ...ExchangeOption) *Topic[T] {
	return &Topic[T]{newExchange[T](b, adapters.Topic, name, opts)}
}

// Publish sends v to whoever has a pattern that matches key, which may be
// nobody (see [Mandatory]). nil means that the broker has it in the queue of
// each. A key with a wildcard for a word is ErrInvalid.
func (t *Topic[T]) Publish(ctx context.Context, key string, v T, opts ...PublishOption) error {
	return t.as(adapters.Topic).send(ctx, key, opts, v)
}

// PublishBatch publishes several values, as [WorkQueue.SendBatch] sends them.
func (t *Topic[T]) PublishBatch(ctx context.Context, key string, values []T, opts ...PublishOption) error {
	return t.as(adapters.Topic).send(ctx, key, opts, toAny(values)...)
}

// PublishItems publishes several values with options each of their own, as [WorkQueue.SendItems].
func (t *Topic[T]) PublishItems(ctx context.Context, items []Item[T]) error {
	return sendItems(ctx, &t.as(adapters.Topic).sender, items, nil)
}

// PublishAsync is Publish that does not wait, as [WorkQueue.SendAsync].
func (t *Topic[T]) PublishAsync(ctx context.Context, key string, v T, opts ...PublishOption) (*Receipt, error) {
	return t.as(adapters.Topic).sendAsync(ctx, key, opts, v)
}

// Subscribe calls handler with one copy of each message whose key
// matches one or more of patterns (see [adapters.MatchTopic]), until ctx ends.
// The patterns of a group add up over time, see Unbind.
func (t *Topic[T]) Subscribe(ctx context.Context, patterns []string, handler Handler[T], opts ...SubscribeOption) (*Subscription, error) {
	return t.as(adapters.Topic).subscribe(ctx, patterns, handler, opts)
}

// SubscribeBatch is Subscribe of a handler of several values at a time, as [WorkQueue.WorkBatch].
func (t *Topic[T]) SubscribeBatch(ctx context.Context, patterns []string, handler BatchHandler[T], opts ...SubscribeBatchOption) (*Subscription, error) {
	return t.as(adapters.Topic).subscribeBatch(ctx, patterns, handler, opts)
}

// Declare makes the exchange exist, and with [Group] also the group and its
// queue, so that it misses nothing that is published before its first member comes.
func (t *Topic[T]) Declare(ctx context.Context, patterns []string, opts ...SubscribeOption) error {
	return t.as(adapters.Topic).declare(ctx, patterns, opts)
}

// Unbind takes patterns from a group. What is in its queue stays.
func (t *Topic[T]) Unbind(ctx context.Context, group string, patterns ...string) error {
	return t.as(adapters.Topic).unbind(ctx, patterns, group)
}
