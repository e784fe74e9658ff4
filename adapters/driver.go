package adapters

import (
	"context"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Driver is one client of a broker. All methods are safe for concurrent use.
// Every method that takes a ctx returns soon after it ends, with an error
// that wraps ctx.Err() unless it was done by then; an ended ctx publishes and
// declares nothing. After Close every method returns ErrClosed.
type Driver interface {
	// Declare makes what s describes exist: its exchange, its queue (unless
	// private), its dead-letter queue, its bindings. Declaring again what exists
	// with the same properties is fine; with others it is ErrMismatch, and
	// nothing has changed. Prefetch is ignored. A Reply source is ErrInvalid.
	Declare(ctx context.Context, s Source) error

	// Publish sends messages and returns nil only when the broker has taken
	// responsibility for every one: stored in each queue it was routed to
	// (durably, unless Transient or the queue is private), or routed nowhere
	// without being Mandatory. An exchange that is missing is declared, unless its Kind is
	// Exchange: then it is ErrNotFound, and nothing is sent.
	//
	// Where some messages failed the error is a *PublishError. ErrUnroutable,
	// ErrNacked and ErrTooLarge say that a message is certainly not stored in the
	// queue concerned; ErrUnconfirmed says that it may be, also when ctx ended
	// while waiting. Any other error of a message, and any error that is not a
	// *PublishError, means that nothing was sent: a ctx that had ended before the
	// call, for example, or a closed driver. One bad message does not stop the
	// others.
	//
	// Messages that one goroutine publishes to one endpoint arrive in each queue
	// in that order. No messages at all is a nil error, once p is valid.
	Publish(ctx context.Context, p Publication, msgs ...*message.Message) error

	// Subscribe declares s (unless Passive) and starts to consume it. When it
	// returns, the subscription is bound: what is published from then on
	// reaches it. ctx bounds the call, not the life of the subscription.
	//
	// The subscription outlives lost sessions: the driver makes a new session,
	// declares again, and goes on. It also does so when its queue was deleted, and
	// whether or not anybody waits in Receive. What cannot be healed ends it, and
	// Receive says why.
	Subscribe(ctx context.Context, s Source) (Subscription, error)

	// Features says what the adapter can do. It is constant, also after Close.
	Features() Features

	// Close stops every subscription, gives what is in hand back to its queues,
	// and frees all resources: no goroutine or timer outlives it. A publish that
	// was not confirmed by then returns ErrUnconfirmed. It returns when all is
	// done or ctx ended, and frees the resources in any case. Closing twice is
	// harmless.
	Close(ctx context.Context) error
}

// AsyncPublisher is implemented by drivers that can have many publishes of
// one goroutine under way.
type AsyncPublisher interface {
	// PublishAsync is Publish of one message that does not wait for the broker. If it
	// returns nil, done is called once, with what Publish would have
	// returned for the message alone (not wrapped in a *PublishError); if it
	// returns an error, nothing was sent and done is not called.
	//
	// It may block until there is room for one more, as long as ctx allows. ctx
	// does not bound the wait for the broker; Close does. Like Publish it does
	// not keep msg. done must not block: it may be called by the goroutine that
	// reads from the broker, or before PublishAsync returns. It may settle deliveries.
	PublishAsync(ctx context.Context, p Publication, msg *message.Message, done func(error)) error
}

// ReplyReceiver is implemented by drivers whose broker has a faster way for
// replies than a queue.
type ReplyReceiver interface {
	// ReceiveReplies makes a reply address: what is published to Endpoint{Reply,
	// address}, by whichever driver, is passed to received, at most once. It cannot
	// be given back, so such a delivery has no Settler. Nothing bounds how many
	// come: the caller has to know how many replies it asked for. received is called
	// with one message after another, by the goroutine that reads from the broker,
	// and must not block.
	//
	// The address lasts until the session is lost or the driver closed. Then lost is
	// called, once, with the reason, and received no more. lost must not block either,
	// and may be called before ReceiveReplies returns. After an error neither is called.
	//
	// ErrUnsupported means that there is no such way here: Subscribe to a Reply source.
	ReceiveReplies(ctx context.Context, received func(Delivery), lost func(error)) (address string, err error)
}

// LogSetter is implemented by drivers that log what happens while no call is waiting for it, such
// as a lost connection.
type LogSetter interface {
	// SetLogger makes the driver log to l, unless it was made with a logger of its own. A bus
	// calls it with its own logger.
	SetLogger(l *slog.Logger)
}

// Getter is implemented by drivers that can report that a queue is empty
// (CanGet).
type Getter interface {
	// Get takes the next message of s, which is declared as Subscribe does, or
	// returns ErrEmpty if none is ready. Prefetch is ignored. A private source and a SingleActive
	// queue are ErrInvalid.
	Get(ctx context.Context, s Source) (Delivery, error)
}

// Unbinder is implemented by drivers that can take a group's bindings away
// (CanUnbind).
type Unbinder interface {
	// Unbind removes the bindings s.Keys (or the one binding, for Fanout) of the
	// queue of s. One that does not exist is not an error. A private source is
	// ErrInvalid.
	Unbind(ctx context.Context, s Source) error
}

// Canceller is implemented by drivers that can take back a message that waits for its Delay
// (CanCancel).
type Canceller interface {
	// Cancel drops what was published to an endpoint with this id and a Delay, and waits for its
	// time: none of it is delivered once Cancel has returned nil. It is ErrNotFound if there is
	// none, because its time has come, for example. What waits in a queue stays.
	//
	// With an error that wraps ErrUnavailable or ctx.Err() it is not known whether it was dropped.
	Cancel(ctx context.Context, to Endpoint, id string) error
}

// Subscription is a consumer of one source. All methods are safe for
// concurrent use.
type Subscription interface {
	// Receive returns the next message, waiting for one as long as ctx allows.
	// Any number of goroutines may wait in it; each message goes to one. Once the
	// subscription has ended, Receive returns why: ErrStopped after Stop,
	// ErrClosed after the driver's Close, or what could not be healed. A
	// delivery with an error is the zero Delivery.
	Receive(ctx context.Context) (Delivery, error)

	// Stop ends fetching. Messages that were not received go back to the
	// queue at once, with no attempt counted; those in hand stay settleable
	// until the driver is closed. A private queue is gone, and what is
	// requeued to it with it. Stop returns when no further message will be received.
	// Stopping twice is harmless.
	Stop() error

	// Address is where to publish so that only this subscription, or its
	// group, gets the message: the name of its queue, for Endpoint{Queue, ...},
	// or for a Reply source the address to put into Properties.ReplyTo, for
	// Endpoint{Reply, ...}. The latter may change when a session is lost. A
	// private source of an exchange cannot be addressed: what this returns for it
	// may be "", and is good for messages to people only.
	Address() string
}

// TryReceiver is implemented by subscriptions that can tell that nothing is on its way to them.
type TryReceiver interface {
	// TryReceive is Receive that does not wait for what the queue has not given this subscription
	// yet: it returns ErrEmpty when nothing is left of what it had been given when TryReceive was
	// called, however long that takes to come in, as long as ctx allows. What was settled before
	// TryReceive was called has reached the broker by then.
	//
	// It is also ErrEmpty if the session was lost meanwhile: what was on its way is then back in
	// the queue. ErrUnsupported means that this subscription cannot tell after all, as one that
	// wraps another.
	TryReceive(ctx context.Context) (Delivery, error)
}

// Returner is implemented by subscriptions that can give back in order all that they hold.
type Returner interface {
	// StopAndReturn is Stop, and gives back what is in hand, too. All that was delivered and is not
	// settled comes before what was not delivered yet, in the order in which it was delivered,
	// which requeueing one message after the other does not ensure. What was in hand is as after a
	// lost session: its context has ended, and settling it is ErrStaleDelivery.
	//
	// ErrUnsupported means that this subscription cannot do so, as one that wraps another. It has
	// not been stopped then.
	StopAndReturn() error
}

// ConsumerCounter is implemented by subscriptions that know how many consumers their queue has.
type ConsumerCounter interface {
	// Consumers returns how many there are, this one included, as it was when the broker said so
	// last. 0 = that is not known.
	Consumers() int
}
