// Package patterns delivers messages to your business functions: five message
// patterns with typed payloads, over any broker that has an adapter.
//
//	bus, err := patterns.Open(ctx, "memory:") // or "amqp://..."
//	defer bus.Close(context.Background()) // not ctx: once that has ended, Close gives back what is in hand
//
//	orders := patterns.NewWorkQueue[Order](bus, "orders")
//	err = orders.Send(ctx, order)                          // nil: the broker has it
//	sub, err := orders.Work(ctx, ship, patterns.Workers(8)) // ship is func(context.Context, Order) error
//	err = sub.Wait()                                       // nil once ctx ended and all in hand was finished
//
// The patterns:
//
//	WorkQueue  each message to one worker            Send, Work, Get, Schedule
//	PubSub     each message to every subscriber      Publish, Subscribe
//	Routed     to the subscribers of its exact key   Publish, Subscribe
//	Topic      to the subscribers of a pattern       Publish, Subscribe
//	RPC        each call to one server for a reply   Call, Serve
//
// A pattern is a value over a [Bus]: cheap, without state of its own and safe for
// concurrent use. Processes that give it the same name share it.
//
// # What becomes of a message
//
// A handler is the user's own function; its error decides:
//
//	nil                                      acknowledged
//	Reject(err), or the payload is no T      to the dead-letter queue now, with the reason
//	RetryAfter(d, err)                       again after d
//	Requeue(err)                             back to its place after a pause, not counted as an attempt
//	Skip(err)                                acknowledged, logged and counted in Stats
//	any other error, or a panic              again when the RetryPolicy says, then to the dead-letter queue
//	ctx ended by shutdown, or session lost   back to the queue, not counted as an attempt
//
// [Classify] says for a whole subscription which errors mean which of these.
//
// A message that waits for its next attempt waits at the broker: it holds no worker and delays no
// other message, even if it waits for an hour. Private subscriptions (without [Group]) have no
// lasting queue: there the worker itself waits, and a message that is given up is logged and passed
// to [OnDrop]. [AckOnReceive] chooses at most once instead of all this.
//
// A message is not lost because it cannot be sent on. After a failure that may pass, such as a
// broker that cannot be reached, it goes back to its queue after a pause. Where the program may not
// send to the queue, the worker itself waits for each further attempt that the policy allows, a
// minute at most. A dead letter that may not be sent is left to the broker's own dead-letter
// setting where Motif declared it, and otherwise stays in its queue. The log says why.
//
// # Guarantees
//
// WorkQueue, and Routed, Topic and PubSub with a Group: a message whose publish
// returned nil is handed to a handler of every matching group at least
// once, until a handler succeeds or the policy parks it in the dead-letter
// queue. Handlers must therefore be idempotent; [Delivery].ID is the same in
// each repeat.
//
// A publish error means not stored, or unknown, which is ErrUnconfirmed. Messages
// of one publisher reach a queue in order, and one worker handles them in order,
// until one is tried again. Private subscriptions get what is published while
// they are bound. A caller receives at most one reply; the function may run more
// than once.
//
// # Errors
//
// Test with errors.Is for the sentinels of package adapters (ErrUnroutable, ErrNacked,
// ErrUnconfirmed, ErrTooLarge, ErrInvalid, ErrUnsupported, ErrClosed and others) and for those of
// this package.
//
// A publish or call whose ctx has no deadline ends after 30 s ([PublishTimeout]); its error says
// so.
//
// # On the wire
//
// A WorkQueue is a queue with its name. A PubSub, Routed or Topic is an exchange with its name, and
// has a queue name:group for each group. The dead letters of a queue are in the queue with its name
// and ".dead". docs/wire.md in the repository has the rest, for programs that do not use Motif.
package patterns
