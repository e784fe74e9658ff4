package patterns

import (
	"context"

	"github.com/motifmq/motif/adapters"
)

// PubSub copies each message to every subscriber: to each group, whose
// members share them, and to each subscription without a group.
type PubSub[T any] struct{ exchange[T] }

// NewPubSub names a fanout exchange on b. Nothing is declared yet.
func NewPubSub[T any](b *Bus, name string, opts ...ExchangeOption) *PubSub[T] {
	return &PubSub[T]{newExchange[T](b, adapters.Fanout, name, opts)}
}

// Publish sends v to whoever is subscribed, which may be nobody (see
// [Mandatory]). nil means that the broker has it in the queue of each.
func (p *PubSub[T]) Publish(ctx context.Context, v T, opts ...PublishOption) error {
	return p.as(adapters.Fanout).send(ctx, "", opts, v)
}

// PublishBatch publishes several values, as [WorkQueue.SendBatch] sends them.
func (p *PubSub[T]) PublishBatch(ctx context.Context, values []T, opts ...PublishOption) error {
	return p.as(adapters.Fanout).send(ctx, "", opts, toAny(values)...)
}

// PublishItems publishes several values with options each of their own, as [WorkQueue.SendItems].
func (p *PubSub[T]) PublishItems(ctx context.Context, items []Item[T]) error {
	return sendItems(ctx, &p.as(adapters.Fanout).sender, items, nil)
}

// PublishAsync is Publish that does not wait, as [WorkQueue.SendAsync].
func (p *PubSub[T]) PublishAsync(ctx context.Context, v T, opts ...PublishOption) (*Receipt, error) {
	return p.as(adapters.Fanout).sendAsync(ctx, "", opts, v)
}

// Subscribe calls handler with a copy of each message, until ctx ends.
func (p *PubSub[T]) Subscribe(ctx context.Context, handler Handler[T], opts ...SubscribeOption) (*Subscription, error) {
	return p.as(adapters.Fanout).subscribe(ctx, nil, handler, opts)
}

// SubscribeBatch is Subscribe of a handler of several values at a time, as [WorkQueue.WorkBatch].
func (p *PubSub[T]) SubscribeBatch(ctx context.Context, handler BatchHandler[T], opts ...SubscribeBatchOption) (*Subscription, error) {
	return p.as(adapters.Fanout).subscribeBatch(ctx, nil, handler, opts)
}

// Declare makes the exchange exist, and with [Group] also the group and its
// queue, so that it misses nothing that is published before its first member comes.
func (p *PubSub[T]) Declare(ctx context.Context, opts ...SubscribeOption) error {
	return p.as(adapters.Fanout).declare(ctx, nil, opts)
}

// Unbind unbinds a group's queue: it gets no more messages. What is in it stays.
func (p *PubSub[T]) Unbind(ctx context.Context, group string) error {
	return p.as(adapters.Fanout).unbind(ctx, nil, group)
}
