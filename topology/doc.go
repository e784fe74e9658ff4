// Package topology compares what an application declares with what is at the broker, creates what
// is missing, and moves a queue to other properties.
//
// An application says what it declares in a function, which it may call when it starts, too:
//
//	func declare(ctx context.Context, bus *patterns.Bus) error {
//		return errors.Join(
//			patterns.NewWorkQueue[Order](bus, "orders", patterns.MaxLength(1000)).Declare(ctx),
//			patterns.NewPubSub[Order](bus, "order-placed").Declare(ctx, patterns.Group("merchant")),
//		)
//	}
//
// [Of] runs it without a broker and returns the [Topology], which the application prints as JSON,
// for the command motif topology, for a test, or for the next version to be compared with. Queues
// that come and go with their users are no part of it: those of private subscriptions, of RPC and
// of delays.
package topology
