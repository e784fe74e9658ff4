// Package middleware has what many subscriptions of package patterns need besides a handler.
//
//	orders.Work(ctx, ship,
//		middleware.Log(nil),                       // a line for each attempt
//		middleware.RateLimit(100, time.Second, 10), // the rest waits at the broker
//		middleware.CircuitBreaker(middleware.BreakerConfig{}), // while a dependency is down, messages wait there, too
//		middleware.Once(middleware.NewMemoryStore(10_000)),    // what was handled is not handled again
//	)
//
// Each function returns an option. Log may also be given to [patterns.New], for all subscriptions.
//
// # Place in the chain
//
// Log, RateLimit and CircuitBreaker work before a message is fetched or after it is settled; it
// does not matter where they stand, except that CircuitBreaker sees the handler's error as the
// middleware after it returns it. Once runs the handler, in a transaction if its store has one:
// give it last, so that tracing and the like are around it, and nothing is between the transaction
// and the handler.
//
// # Watermill's own middleware
//
// What does not decide what becomes of a message fits as it is, in [patterns.WithMiddleware]:
// CorrelationID (for the replies of calls), Timeout (or [patterns.HandlerTimeout], which the broker
// is told of), Recoverer (which is not needed: patterns recovers panics; with it the error is no
// PanicError), RandomFail, RandomPanic and Duplicator (for tests), and IgnoreErrors (as
// [patterns.Classify], but it compares texts).
//
// Throttle holds the message while it waits, fetched and with its worker, and stops for no
// shutdown: [RateLimit] does neither. Retry holds it, too, for tries that nobody counts; leave them
// to [patterns.Retry].
//
// These work against patterns: PoisonQueue and DelayOnError (a message is sent on by its retry
// policy, to wait and to die, and not by middleware), InstantAck (an error then has no effect but a
// log line; [patterns.AckOnReceive] says so openly), Deduplicator (it takes a retry for a
// duplicate, and loses it: [Once]), and CircuitBreaker (while it is open each message fails at
// once, and burns its tries until it is a dead letter: [CircuitBreaker]).
package middleware
