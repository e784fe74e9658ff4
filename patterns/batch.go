package patterns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
)

// BatchHandler is a handler of several values at a time, in the order in which they were received.
// A nil error acknowledges all their messages. A [BatchError] names those that failed, each with an
// error of its own, and acknowledges the others. Any other error, or a panic, is that of every
// message. What an error means is the same as for a [Handler]: it is retried, or what [Reject],
// [RetryAfter], [Requeue] and [Skip] say, message by message.
//
// Its ctx ends when the session that delivered the messages is lost, when the drain timeout of a
// shutdown has passed, and at [HandlerTimeout], which is for the whole batch. [DeliveriesFrom]
// returns what else is known of the messages. It may keep the slice.
type BatchHandler[T any] func(ctx context.Context, batch []T) error

// BatchError says which values of a batch failed, by their index in it, and why. Those that it does
// not name, or names with a nil error, are done. An empty one is no failure at all:
//
//	failed := patterns.BatchError{}
//	for i, order := range batch {
//		if order.Dish == "" {
//			failed[i] = patterns.Reject(errNoDish)
//		}
//	}
//	return failed
//
// It may be wrapped with %w. Within [Reject] and the like, or joined with another error, it is an
// error like any other, and that of every message. So is one with an index that the batch does not
// have: then it is not known what failed.
type BatchError map[int]error

func (e BatchError) Error() string {
	var b strings.Builder
	for _, i := range slices.Sorted(maps.Keys(e)) {
		if e[i] == nil {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "value %d of the batch: %v", i, e[i])
	}
	if b.Len() == 0 {
		return "no value of the batch failed"
	}
	return b.String()
}

// Unwrap returns the errors, in the order of the batch.
func (e BatchError) Unwrap() []error {
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(e)) {
		if e[i] != nil {
			errs = append(errs, e[i])
		}
	}
	return errs
}

// errorsOf returns what an error of a batch's handler is for each of its n messages.
func errorsOf(err error, n int) []error {
	errs := make([]error, n)
	named, ok := batchErrorIn(err)
	for i := range named {
		ok = ok && i >= 0 && i < n
	}
	for i := range errs {
		if ok {
			errs[i] = named[i]
		} else {
			errs[i] = err
		}
	}
	return errs
}

// batchErrorIn returns the BatchError that err is or wraps, if it says no more than that.
func batchErrorIn(err error) (BatchError, bool) {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // what is joined with one, or within Reject, is about all
		case BatchError:
			return e, true
		case *rejectError, *retryError, *requeueError, *skipError, *PanicError:
			return nil, false
		}
		err = errors.Unwrap(err)
	}
	return nil, false
}

// WorkBatch calls handler with up to [BatchSize] values at a time, until ctx ends: when so many
// have come, or [BatchWait] after the first of them did. [Workers] is how many batches are handled
// at a time, and the subscription holds no more messages than that many batches have: a crash
// repeats one batch for each worker at most.
//
// Each message has an outcome of its own, as with Work, whatever the others have. What does not
// decode is rejected and not part of a batch, and what went back to the queue while its batch was
// gathered, because the session was lost, is taken out of it. A message that is suspected of
// killing its worker, see [LossLimit], is a batch by itself. A shutdown has the handler called at
// once with what was gathered. With [AckOnReceive] what is being gathered is acknowledged too.
//
// Middleware is called for each message, not for each batch: several at a time, and each is told
// what became of its message. The time that a message waits for the others is part of what it
// measures. The values that a middleware puts into a message's ctx are not in that of handler.
func (q *WorkQueue[T]) WorkBatch(ctx context.Context, handler BatchHandler[T], opts ...BatchOption) (*Subscription, error) {
	sub, err := q.workBatch(ctx, handler, opts)
	return sub, q.opError("work on", err)
}

func (q *WorkQueue[T]) workBatch(ctx context.Context, handler BatchHandler[T], opts []BatchOption) (*Subscription, error) {
	if err := cmp.Or(q.ready(ctx), q.split.errUnordered("WorkBatch")); err != nil {
		return nil, err
	}
	var cfg consumeConfig
	if err := apply(opts, func(o BatchOption) error { return o.applyBatch(&cfg) }); err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, invalid("nil handler")
	}
	g := newGatherer(handler)
	return q.bus.start(ctx, subscriptionSpec{
		source: q.source, cfg: cfg, codecs: q.codecs(), deadLetter: q.deadLetter, gatherer: g, handler: gatherFunc[T](q.codecs(), g, cfg.onUnknown),
		opError: func(err error) error { return q.opError("work on", err) },
	})
}

// gatherFunc makes the innermost watermill handler, which has its message handled with others.
func gatherFunc[T any](c *codecs, g *gatherer, onUnknown func(context.Context, Delivery) error) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		v, err := decodeAs[T](c, m)
		if err != nil {
			return nil, undecoded(m, err, onUnknown)
		}
		return nil, g.join(m.Context(), v)
	}
}

func newGatherer[T any](handler BatchHandler[T]) *gatherer {
	return &gatherer{handler: func(ctx context.Context, members []*member) error {
		values := make([]T, len(members))
		for i, m := range members {
			values[i], _ = m.value.(T) // not so for a nil interface
		}
		return handler(ctx, values)
	}}
}

// DeliveriesFrom returns the deliveries of the messages that a [BatchHandler] was given, in the
// order of its values, from its ctx or one derived from it. It is nil outside of them. For a
// message whose ctx a middleware replaced altogether it has a zero Delivery.
func DeliveriesFrom(ctx context.Context) []Delivery {
	c, ok := ctx.Value(batchKey{}).(*batchContext)
	if !ok {
		return nil
	}
	all := make([]Delivery, len(c.members))
	for i, m := range c.members {
		if m.delivery != nil {
			all[i] = public(&m.delivery.d, m.delivery.origin)
		}
	}
	return all
}

type batchKey struct{}

// batchContext is the ctx of a batch's handler.
type batchContext struct {
	context.Context
	members []*member
}

func (c *batchContext) Value(key any) any {
	if _, ok := key.(batchKey); ok {
		return c
	}
	return c.Context.Value(key)
}
