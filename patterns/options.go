package patterns

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Options are typed by role, so that one in the wrong place does not compile. One with a value that
// makes no sense, or that is given twice, or that would have no effect where it is given, is
// reported, as adapters.ErrInvalid, by the call it is given to, or where that returns no error by
// the first verb of what it made. Those that add something, such as middleware, hooks and gates,
// may be given several times.
type (
	// BusOption is for [New] and [Open].
	BusOption interface{ applyBus(*busConfig) error }

	// WorkQueueOption is for [NewWorkQueue]: the properties of its queue.
	WorkQueueOption interface{ applyQueue(*queueConfig) error }

	// ExchangeOption is for [NewPubSub], [NewRouted], [NewTopic] and [NewExchange]: how what is
	// published, and comes to subscriptions, is encoded.
	ExchangeOption interface{ applyExchange(*encodingConfig) error }

	// WorkOption is for [WorkQueue.Work].
	WorkOption interface{ applyWork(*consumeConfig) error }

	// BatchOption is for [WorkQueue.WorkBatch].
	BatchOption interface{ applyBatch(*consumeConfig) error }

	// ServeOption is for [RPC.Serve].
	ServeOption interface{ applyServe(*consumeConfig) error }

	// SubscribeOption is for the Subscribe and Declare methods of [PubSub], [Routed] and [Topic].
	SubscribeOption interface{ applySubscribe(*subscribeConfig) error }

	// SubscribeBatchOption is for the SubscribeBatch methods of [PubSub], [Routed] and [Topic].
	SubscribeBatchOption interface{ applySubscribeBatch(*subscribeConfig) error }

	// PublishOption is for everything that sends one way.
	PublishOption interface{ applyPublish(*publishConfig) error }

	// CallOption is for [RPC.Call].
	CallOption interface{ applyCall(*publishConfig) error }
)

type (
	// ConsumeOption says how messages are handled; it is a WorkOption, a SubscribeOption, a
	// ServeOption, a BatchOption and a SubscribeBatchOption.
	ConsumeOption struct{ set func(*consumeConfig) error }

	// FailureOption says what becomes of failed messages; it is a WorkOption, a SubscribeOption, a
	// BatchOption and a SubscribeBatchOption.
	FailureOption struct{ set func(*consumeConfig) error }

	// GatherOption says how batches are gathered; it is a BatchOption and a SubscribeBatchOption.
	GatherOption struct{ set func(*consumeConfig) error }

	// QueueOption is a property of a durable queue; it is a WorkQueueOption and, for the queue of a
	// group, a SubscribeOption and a SubscribeBatchOption.
	QueueOption struct{ set func(*queueConfig) error }

	// MiddlewareOption is what [WithMiddleware] returns; it is a BusOption, a WorkOption, a
	// SubscribeOption, a ServeOption, a BatchOption and a SubscribeBatchOption.
	MiddlewareOption struct{ chain []message.HandlerMiddleware }

	// HeaderOption is what [Header] returns; it is a PublishOption and a
	// CallOption.
	HeaderOption struct{ key, value string }

	// GroupOption is what [Group] returns; it is a SubscribeOption and a SubscribeBatchOption.
	GroupOption struct{ name string }

	// PassiveOption is what [Passive] returns; it is a WorkQueueOption, a ServeOption and, for the
	// queue of a group, a SubscribeOption and a SubscribeBatchOption.
	PassiveOption struct{}

	busOption     func(*busConfig) error
	serveOption   func(*consumeConfig) error
	publishOption func(*publishConfig) error
)

type busConfig struct {
	encoding    encodingConfig
	logger      *slog.Logger
	middleware  []message.HandlerMiddleware
	onPublish   []PublishHook
	onNew       []func(*Bus) func()
	onGet       []func(context.Context, Got)
	onSettle    []SettleHook
	maxInFlight int
	maxCalls    int
	maxPayload  int

	publishTimeout time.Duration
	errorCodes     []errorCode
}

type consumeConfig struct {
	workers      int
	prefetch     int
	retry        RetryPolicy
	lossLimit    int
	ackOnReceive bool
	drain        time.Duration
	drainGiven   bool
	timeout      time.Duration
	middleware   []message.HandlerMiddleware
	encoding     encodingConfig
	onDrop       func(Delivery, error)
	onUnknown    func(context.Context, Delivery) error
	gates        []Gate
	onSettle     []SettleHook
	classify     func(error) error
	order        keyOf
	overtake     bool
	maxAge       time.Duration
	between      bounds

	passive, exposeErrors bool // of Serve

	batchSize int // of WorkBatch
	batchWait time.Duration
}

type queueConfig struct {
	spec         adapters.QueueSpec
	passive      bool
	deadLetter   string
	noDeadLetter bool
	encoding     encodingConfig
	partitions   int // 0: it is one queue
	partitionKey partitionKey
	set          bool // some queue option was given
}

type subscribeConfig struct {
	consumeConfig
	queue   queueConfig
	group   string
	handles bool // some option says how messages are handled
}

type publishConfig struct {
	p           adapters.Publication
	codecs      *codecs
	encoding    encodingConfig
	id          string
	headers     map[string]string
	received    *Delivery // what it is to be sent as, or nil
	waitForRoom bool
	prioritized bool
	typeGiven   bool // by an option
}

func (o ConsumeOption) applyWork(c *consumeConfig) error             { return configure(o.set, c) }
func (o ConsumeOption) applyBatch(c *consumeConfig) error            { return configure(o.set, c) }
func (o ConsumeOption) applyServe(c *consumeConfig) error            { return configure(o.set, c) }
func (o ConsumeOption) applySubscribe(c *subscribeConfig) error      { return c.consume(o.set) }
func (o ConsumeOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

func (o FailureOption) applyWork(c *consumeConfig) error             { return configure(o.set, c) }
func (o FailureOption) applyBatch(c *consumeConfig) error            { return configure(o.set, c) }
func (o FailureOption) applySubscribe(c *subscribeConfig) error      { return c.consume(o.set) }
func (o FailureOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

func (o GatherOption) applyBatch(c *consumeConfig) error            { return configure(o.set, c) }
func (o GatherOption) applySubscribeBatch(c *subscribeConfig) error { return c.consume(o.set) }

func (o QueueOption) applyQueue(c *queueConfig) error {
	c.set = true
	return configure(o.set, c)
}

func (o QueueOption) applySubscribe(c *subscribeConfig) error      { return o.applyQueue(&c.queue) }
func (o QueueOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

func (o MiddlewareOption) applyBus(c *busConfig) error {
	c.middleware = append(c.middleware, o.chain...)
	return o.check()
}

func (o MiddlewareOption) applyWork(c *consumeConfig) error {
	c.middleware = append(c.middleware, o.chain...)
	return o.check()
}

func (o MiddlewareOption) applyBatch(c *consumeConfig) error { return o.applyWork(c) }
func (o MiddlewareOption) applyServe(c *consumeConfig) error { return o.applyWork(c) }
func (o MiddlewareOption) applySubscribe(c *subscribeConfig) error {
	return c.consume(o.applyWork)
}

func (o MiddlewareOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

func (c *subscribeConfig) consume(set func(*consumeConfig) error) error {
	c.handles = true
	return configure(set, &c.consumeConfig)
}

// configure does what an option says; a zero option says nothing.
func configure[C any](set func(*C) error, c *C) error {
	if set == nil {
		return invalid("nil option")
	}
	return set(c)
}

func (o MiddlewareOption) check() error {
	for i, mw := range o.chain {
		if mw == nil {
			return invalid("middleware %d is nil", i)
		}
	}
	return nil
}

func (o HeaderOption) applyPublish(c *publishConfig) error {
	if err := checkHeader(o.key); err != nil {
		return err
	}
	if c.headers == nil {
		c.headers = make(map[string]string, 4)
	}
	if _, ok := c.headers[o.key]; ok {
		return invalid("Header %q is given twice", clip(o.key, 64))
	}
	c.headers[o.key] = o.value
	return nil
}

func (o HeaderOption) applyCall(c *publishConfig) error { return o.applyPublish(c) }

func (o PassiveOption) applyQueue(c *queueConfig) error {
	c.set = true
	return setOnce("Passive", &c.passive, true)
}

func (o PassiveOption) applySubscribe(c *subscribeConfig) error      { return o.applyQueue(&c.queue) }
func (o PassiveOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }
func (o PassiveOption) applyServe(c *consumeConfig) error {
	return setOnce("Passive", &c.passive, true)
}

func (o serveOption) applyServe(c *consumeConfig) error { return o(c) }

func (o busOption) applyBus(c *busConfig) error             { return o(c) }
func (o publishOption) applyPublish(c *publishConfig) error { return o(c) }

// apply runs every option and joins what they say.
func apply[O any](opts []O, one func(O) error) error {
	var errs []error
	for _, o := range opts {
		if v := reflect.ValueOf(o); !v.IsValid() || v.Kind() == reflect.Func && v.IsNil() {
			errs = append(errs, invalid("nil option"))
			continue
		}
		if err := one(o); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// WithLogger makes the bus log to l what a caller would not see: retries, dead letters, drops, lost
// sessions. Without it the bus logs to [slog.Default]; a logger with [slog.DiscardHandler] keeps it
// silent. Lines about a message are logged with the handler's ctx, as middleware left it. Payloads
// and header values are never logged.
func WithLogger(l *slog.Logger) BusOption {
	return busOption(func(cfg *busConfig) error {
		if l == nil {
			return invalid("nil logger")
		}
		return setOnce("WithLogger", &cfg.logger, l)
	})
}

// WithMiddleware wraps handlers: given to [New] those of every subscription,
// given to a subscription its own. The first is the outermost, and those of the bus are
// outside those of the subscription. Decoding and the handler are inside, so
// that a middleware sees (and may replace, but not write into) the encoded payload,
// and the error decides only once the outermost has returned it. Messages that
// a middleware returns have no destination and are an error, except for the
// reply in [RPC.Serve].
func WithMiddleware(mw ...message.HandlerMiddleware) MiddlewareOption { return MiddlewareOption{mw} }

// BusOptions makes one option of several, as for a package that watches a bus in more than one way.
func BusOptions(opts ...BusOption) BusOption {
	return busOption(func(c *busConfig) error {
		return apply(opts, func(o BusOption) error { return o.applyBus(c) })
	})
}

// OnNew has f called with the bus that [New] made, before it is used: for what reads [Bus.Stats]
// for a page of metrics. What f returns is called once the bus is closed, if it is not nil.
func OnNew(f func(*Bus) (closed func())) BusOption {
	return busOption(func(c *busConfig) error {
		if f == nil {
			return invalid("OnNew of nil")
		}
		c.onNew = append(c.onNew, f)
		return nil
	})
}

// MaxInFlight bounds how many asynchronous publishes of the bus are under way
// (1024 without it); the next one waits.
func MaxInFlight(n int) BusOption {
	return busOption(func(c *busConfig) error { return atLeast1("MaxInFlight", n, &c.maxInFlight) })
}

// MaxCalls bounds how many RPC calls of the bus are under way (4096 without
// it); the next one waits.
func MaxCalls(n int) BusOption {
	return busOption(func(c *busConfig) error { return atLeast1("MaxCalls", n, &c.maxCalls) })
}

// MaxPayload is the largest encoded message in bytes, before it is compressed (16 MiB without it).
// Sending a larger one is ErrTooLarge; one received is not decoded but goes to
// the dead letters.
func MaxPayload(n int) BusOption {
	return busOption(func(c *busConfig) error { return atLeast1("MaxPayload", n, &c.maxPayload) })
}

// Group makes a subscription a member of a durable group: the group gets a
// copy of every message, even while no member is connected, and its members
// share them. Without it the subscription gets its own copy of what is
// published while it lasts.
func Group(name string) GroupOption { return GroupOption{name} }

func (o GroupOption) applySubscribe(c *subscribeConfig) error {
	if o.name == "" {
		return invalid("empty group")
	}
	return setOnce("Group", &c.group, o.name)
}

func (o GroupOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

func atLeast1(what string, n int, to *int) error {
	if n < 1 {
		return invalid("%s(%d), at least 1 is needed", what, n)
	}
	return setOnce(what, to, n)
}

func positive(what string, d time.Duration, to *time.Duration) error {
	if d <= 0 {
		return invalid("%s(%v), which must be more than 0", what, d)
	}
	return setOnce(what, to, d)
}

// setOnce sets what an option is about, and refuses to do so twice: or the last of two would win
// silently.
func setOnce[T comparable](what string, to *T, v T) error {
	if *to != *new(T) {
		return givenTwice(what)
	}
	*to = v
	return nil
}

func givenTwice(what string) error { return invalid("%s is given twice", what) }
