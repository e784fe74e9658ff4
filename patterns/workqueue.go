package patterns

import (
	"context"
	"errors"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Handler is the user's own function: it is given a value, and its error
// decides what becomes of the message (see the package's table). Its ctx ends
// when the session that delivered is lost, when the drain timeout of a
// shutdown has passed, and at [HandlerTimeout]. [DeliveryFrom] returns what
// else is known of the message.
type Handler[T any] func(ctx context.Context, v T) error

// WorkQueue is a durable queue of work: each message is handled by one of the
// workers, wherever they run.
type WorkQueue[T any] struct {
	sender
	deadLetter    string
	deadLettersOf string      // the queue whose dead letters these are, where it is known
	split         *partitions // of the queue, or nil
}

const deadSuffix = ".dead"

// NewWorkQueue names a queue on b. Nothing is declared yet: that happens with
// the first verb, or by Declare. Every process that uses the queue must give
// it the same options.
//
// A queue whose name ends in ".dead" is taken for the dead letters of another:
// it has none of its own, and a message that fails in it stays in it, and is
// tried again later (see [WorkQueue.Dead]).
func NewWorkQueue[T any](b *Bus, name string, opts ...WorkQueueOption) *WorkQueue[T] {
	var cfg queueConfig
	err := apply(opts, func(o WorkQueueOption) error { return o.applyQueue(&cfg) })
	q := newWorkQueue[T](b, name, err)
	q.deadLetter = cfg.applyTo(&q.source)
	var codecErr error
	q.ownCodecs, codecErr = ownCodecs[T](b, cfg.encoding)
	q.err = errors.Join(err, cfg.check(q.source), checkPartitions[T](&cfg, name), codecErr)
	if q.err == nil && cfg.partitions > 0 {
		q.split = newPartitions(q.sender, cfg.partitions, cfg.partitionKey)
	}
	return q
}

func newWorkQueue[T any](b *Bus, name string, err error) *WorkQueue[T] {
	e := adapters.Endpoint{Kind: adapters.Queue, Name: name}
	return &WorkQueue[T]{sender: sender{bus: b, to: e, source: adapters.Source{Endpoint: e}, err: err}}
}

// check refuses options that contradict each other.
func (c queueConfig) check(src adapters.Source) error {
	name := src.QueueName()
	switch {
	case src.Queue.DeadLetter == name+deadSuffix && len(src.Queue.DeadLetter) > adapters.MaxNameBytes && len(name) <= adapters.MaxNameBytes:
		return invalid("queue name of %d bytes: with %q, for its dead letters, it has more than %d; DeadLetter gives them another queue: %q",
			len(name), deadSuffix, adapters.MaxNameBytes, clip(name, 64))
	case c.deadLetter != "" && c.noDeadLetter:
		return invalid("DeadLetter and NoDeadLetter")
	case c.spec.Overflow == adapters.DropHead && c.spec.MaxLength == 0:
		return invalid("DropOldest without MaxLength")
	case c.passive && c.spec != (adapters.QueueSpec{}):
		return invalid("Passive, and properties for the queue")
	case c.passive && c.noDeadLetter:
		return invalid("Passive and NoDeadLetter: the queue's own setting says where what is rejected goes")
	}
	return nil
}

// applyTo puts the queue's properties into src, and returns the name of the queue for its dead
// letters, or "".
func (c queueConfig) applyTo(src *adapters.Source) (deadLetter string) {
	name := src.QueueName()
	src.Queue, src.Passive = c.spec, c.passive
	switch {
	case c.noDeadLetter:
		return ""
	case c.deadLetter != "":
		deadLetter = c.deadLetter
	case strings.HasSuffix(name, deadSuffix):
		return name // its failures stay in it
	case c.passive:
		return "" // the broker's own setting rules
	default:
		deadLetter = name + deadSuffix
	}
	if !c.passive {
		src.Queue.DeadLetter = deadLetter
	}
	return deadLetter
}

// Name returns the name of the queue.
func (q *WorkQueue[T]) Name() string { return q.source.Name }

// Declare makes the queue and its dead-letter queue exist, and reports what
// is wrong with the options, or refused by the adapter or the broker. The other
// verbs do so too.
func (q *WorkQueue[T]) Declare(ctx context.Context) error {
	err := q.ready(ctx)
	switch {
	case err != nil:
	case q.split != nil:
		err = q.split.declare(ctx, q.bus)
	default:
		err = q.bus.driver.Declare(ctx, q.source)
	}
	return q.opError("declare", err)
}

func (q *WorkQueue[T]) opError(verb string, err error) error {
	return opError(verb+" work queue", q.source.Name, err)
}

func (q *WorkQueue[T]) ready(ctx context.Context) error {
	if err := q.bus.ready(ctx); err != nil {
		return err
	}
	if q.err != nil {
		return q.err
	}
	if err := q.source.Validate(); err != nil {
		return err
	}
	return q.bus.features.Require(q.source.Needs())
}

// Send puts v into the queue. nil means that the broker has it.
func (q *WorkQueue[T]) Send(ctx context.Context, v T, opts ...PublishOption) error {
	s, err := q.senderOf(v)
	if err != nil {
		return q.publishError(err)
	}
	return s.send(ctx, "", opts, v)
}

// senderOf returns who sends a value.
func (q *WorkQueue[T]) senderOf(v T) (*sender, error) {
	if q.split == nil {
		return &q.sender, nil
	}
	return q.split.of(v)
}

// SendBatch sends several values, in order and at once. If some of them fail the error is an
// *adapters.PublishError, which says which; the others are in the queue.
func (q *WorkQueue[T]) SendBatch(ctx context.Context, values []T, opts ...PublishOption) error {
	if q.split == nil {
		return q.send(ctx, "", opts, toAny(values)...)
	}
	items := make([]Item[T], len(values))
	for i, v := range values {
		items[i] = Item[T]{Value: v, Options: opts}
	}
	if len(items) > 1 {
		if err := checkShared(opts, len(items)); err != nil {
			return q.publishError(err)
		}
	}
	return q.SendItems(ctx, items)
}

// SendItems is SendBatch of values that have options each of their own. None is sent if one of them
// cannot be, for its value or its options. Hooks of [OnPublish] are called for each.
func (q *WorkQueue[T]) SendItems(ctx context.Context, items []Item[T]) error {
	return sendItems(ctx, &q.sender, items, q.senderOf)
}

// SendAsync is Send that does not wait for the publish confirm: the receipt does.
// It waits only while as many publishes are in flight as [MaxInFlight] allows.
// Values sent by one goroutine keep their order.
func (q *WorkQueue[T]) SendAsync(ctx context.Context, v T, opts ...PublishOption) (*Receipt, error) {
	s, err := q.senderOf(v)
	if err != nil {
		return nil, q.publishError(err)
	}
	return s.sendAsync(ctx, "", opts, v)
}

// Cancel takes back what was sent with this [MessageID] and a [Delay] and waits for its time, also
// a message that failed and waits for its next attempt. None of it comes once Cancel has returned
// nil. It is ErrNotFound if nothing with this id waits so, because its time has come, for example.
// Not every adapter can (adapters.CanCancel): RabbitMQ cannot.
func (q *WorkQueue[T]) Cancel(ctx context.Context, id string) error {
	return q.opError("cancel a message to", q.cancel(ctx, id))
}

func (q *WorkQueue[T]) cancel(ctx context.Context, id string) error {
	if err := q.ready(ctx); err != nil {
		return err
	}
	if err := q.bus.features.Require(adapters.CanDelay | adapters.CanCancel); err != nil {
		return err
	}
	c, ok := q.bus.driver.(adapters.Canceller)
	if !ok {
		return &adapters.UnsupportedError{Adapter: q.bus.features.Adapter, Missing: adapters.CanCancel}
	}
	if id == "" || len(id) > adapters.MaxNameBytes {
		return invalid("message id of %d bytes", len(id))
	}
	if q.split == nil {
		return c.Cancel(ctx, q.to, id)
	}
	err := error(adapters.ErrNotFound)
	for i := range q.split.senders { // the id does not say where it is
		if err = c.Cancel(ctx, q.split.senders[i].to, id); !errors.Is(err, adapters.ErrNotFound) {
			break
		}
	}
	return err
}

// Work calls handler with each message, until ctx ends; see [Subscription].
func (q *WorkQueue[T]) Work(ctx context.Context, handler Handler[T], opts ...WorkOption) (*Subscription, error) {
	sub, err := q.work(ctx, handler, opts)
	return sub, q.opError("work on", err)
}

func (q *WorkQueue[T]) work(ctx context.Context, handler Handler[T], opts []WorkOption) (*Subscription, error) {
	if err := q.ready(ctx); err != nil {
		return nil, err
	}
	var cfg consumeConfig
	if err := apply(opts, func(o WorkOption) error { return o.applyWork(&cfg) }); err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, invalid("nil handler")
	}
	if err := checkOrder[T](&cfg); err != nil {
		return nil, err
	}
	if q.split != nil {
		if cfg.order != nil {
			return nil, invalid("OrderBy with a queue that has Partitions, whose key is the order's")
		}
		if cfg.ackOnReceive {
			return nil, invalid("AckOnReceive with a queue that has Partitions: another process would go on before the handler has returned")
		}
		if err := q.split.check(ctx, q.bus); err != nil {
			return nil, err
		}
		cfg.order = q.split.key
	}
	return q.bus.start(ctx, subscriptionSpec{
		partitions: q.split,
		source:     q.source, cfg: cfg, codecs: q.codecs(), deadLetter: q.deadLetter, handler: handlerFunc(q.codecs(), handler, cfg.onUnknown),
		opError: func(err error) error { return q.opError("work on", err) },
	})
}

// Dead returns the work queue that holds the dead letters of q, with their reason in headers (see
// [HeaderReason]). Waiting goes through them, Redrive sends them back as they are, and Work repairs
// them as they come; a dead letter whose handler fails stays there. With [NoDeadLetter] or
// [Passive] there is no such queue, and its verbs return an error.
func (q *WorkQueue[T]) Dead() *WorkQueue[T] {
	if q.deadLetter == "" {
		return newWorkQueue[T](q.bus, "", invalid("queue %q has no dead-letter queue of its own", q.source.Name))
	}
	dead := newWorkQueue[T](q.bus, q.deadLetter, q.err)
	dead.deadLetter, dead.deadLettersOf, dead.ownCodecs = q.deadLetter, q.source.Name, q.ownCodecs
	return dead
}

var errNoTypes = invalid("OnUnknownType without WithTypes: all types are known, then")

// handlerFunc makes the innermost watermill handler of the user's function.
func handlerFunc[T any](c *codecs, handler Handler[T], onUnknown func(context.Context, Delivery) error) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		v, err := decodeAs[T](c, m)
		if err != nil {
			return nil, undecoded(m, err, onUnknown)
		}
		return nil, handler(m.Context(), v)
	}
}

// decodeAs returns the value of a message, or the error of the handler that is not called for it.
func decodeAs[T any](c *codecs, m *message.Message) (v T, err error) {
	switch decoded, err := orderedValue[T](m); {
	case err != nil:
		return v, err
	case decoded != nil:
		return *decoded, nil
	}
	return openAs[T](c, m)
}

func openAs[T any](c *codecs, m *message.Message) (v T, err error) {
	if err = c.openMessage(m, &v); err != nil {
		err = Reject(err)
	}
	return v, err
}

// undecoded returns what a message comes to that decodeAs returned err for.
func undecoded(m *message.Message, err error, onUnknown func(context.Context, Delivery) error) error {
	if onUnknown == nil || !isA[*UnknownTypeError](err) {
		return err
	}
	d, _ := DeliveryFrom(m.Context())
	return onUnknown(m.Context(), d)
}
