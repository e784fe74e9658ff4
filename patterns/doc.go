// Package patterns calls business functions for messages: five message
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
//	WorkQueue  each message to one worker            Send, Work, Get
//	PubSub     each message to every subscriber      Publish, Subscribe
//	Routed     to the subscribers of its exact key   Publish, Subscribe
//	Topic      to the subscribers of a pattern       Publish, Subscribe
//	RPC        each call answered by one server      Call, Serve
//
// A pattern is a value over a [Bus]: cheap, without state of its own, safe for
// concurrent use, and the same in every process that names it.
//
// # What becomes of a message
//
// A handler is the user's own function; its error decides:
//
//	nil                                      acknowledged
//	Reject(err), or the payload is no T      to the dead-letter queue now, with the reason
//	RetryAfter(d, err)                       again after d
//	Requeue(err)                             back to its place after a pause, not counted as a try
//	Skip(err)                                acknowledged, logged and counted in Stats
//	any other error, or a panic              again when the RetryPolicy says, then to the dead-letter queue
//	ctx ended by shutdown, or session lost   back to the queue, not counted as a try
//
// [Classify] says for a whole subscription which errors mean which of these.
//
// A message that waits for its next try waits at the broker, in its own time:
// it holds no worker, and one that waits an hour is in nobody's way. Private
// subscriptions (without [Group]) have no lasting queue: there the worker
// itself waits, and a message that is given up is logged and passed to [OnDrop].
// [AckOnReceive] chooses at most once in place of all this.
//
// A message that cannot be sent on is not lost for it. What passes, as a broker that is away, lets
// it go back to its queue, after a pause. Where its user may not send, the worker itself waits for
// the next try, as many as the policy has; a dead letter that cannot be sent is left to the
// broker's own dead-letter setting where Motif declared it, and stays in its queue otherwise. The
// log says why.
//
// # Guarantees
//
// WorkQueue, and Routed, Topic and PubSub with a Group: a message whose publish
// returned nil is handed to a handler of every matching group at least
// once, until a handler succeeds or the policy parks it in the dead-letter
// queue. Handlers must therefore be idempotent; [Delivery].ID is the same in
// each repeat.
// An error of a publish means not stored, or (ErrUnconfirmed) unknown.
// Messages of one publisher reach a queue in order, and one worker handles
// them in order, until one is tried again. Private subscriptions get what is
// published while they are bound. Of an RPC at most one reply reaches the caller;
// the function may run more than once.
//
// # Errors
//
// The sentinels are those of package adapters (ErrUnroutable, ErrNacked,
// ErrUnconfirmed, ErrTooLarge, ErrInvalid, ErrUnsupported, ErrClosed ...), to be
// tested for with errors.Is, and those of this package.
//
// A publish or call whose ctx has no deadline ends after 30 s ([PublishTimeout]); its error says
// so.
//
// # On the wire
//
// A work queue is a queue of its name; PubSub, Routed and Topic are exchanges of theirs, with a
// queue name:group for each group. Dead letters are in the queue's name and ".dead". docs/wire.md
// in the repository has the rest, for programs without Motif.
package patterns
