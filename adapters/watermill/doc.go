// Package watermill has the doors between Motif and watermill, one in each direction.
//
// # A Motif driver in a watermill program
//
// [NewPublisher] and [NewSubscriber] make any adapter a watermill Pub/Sub, so that a message.Router
// runs on it. What a watermill topic means is said once, by a function from the topic to a place at
// the broker: [ToFanout] with [FromGroup] or [FromFanout], [ToQueue] with [FromQueue], or one of
// your own, for example to take the topic for the routing key of one Topic exchange:
//
//	func toEvents(topic string) adapters.Publication {
//		return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "events"}, Key: topic}
//	}
//
//	func fromEvents(pattern string) adapters.Source {
//		return adapters.Source{Endpoint: toEvents("").To, Group: "audit", Keys: []string{pattern}}
//	}
//
// Publishing is confirmed and knows the context of each message. Consuming is pulled: no more is
// fetched than is in hand.
//
// The driver is yours: close the router, then the subscriber, which waits until what the handlers
// acked is settled, and then the driver.
//
// # A watermill pair in a Motif program
//
// [NewDriver] makes any watermill Publisher and Subscriber an adapter for package patterns.
// watermill's interfaces do not reveal what is behind them, so the driver claims the least, and
// [Config] is where you state more. Work queues work on every pair, with retries in process and no
// dead letters:
//
//	queue := patterns.NewWorkQueue[Order](bus, "orders", patterns.NoDeadLetter())
//	sub, err := queue.Work(ctx, ship, patterns.Retry(patterns.RetryPolicy{InProcess: true}))
//
// Of such a queue the pair decides what its names promise elsewhere: gochannel forgets what nobody
// is subscribed to. What no pair can do is refused: keys, reply addresses, delay, time to live,
// priority, limits, dead letters. watermill has no redelivered mark, so [adapters.Delivery] never
// has it set.
//
// The properties of a message travel in its metadata, see [MetadataKey] and those after it. A
// foreign publisher need not set them.
package watermill
