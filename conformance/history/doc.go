// Package history writes down what goes through drivers, and judges whether
// what became of every message is what package adapters promises.
//
// It checks any system that uses drivers, yours as well: record each client,
// let the system work, make it stop, write down what is left in the queues, and
// ask for the verdict.
//
//	var log history.Log
//	bus := patterns.New(history.Record(driver, &log, "orders"))
//	// ... work, faults, restarts; then close the bus, and for each of
//	// log.Queues() take out what is left, as Left events
//	for _, v := range log.Check().Violations {
//		t.Error(v)
//	}
//
// Violations are ways in which a history breaks the promises: see [Kind].
// What may happen is only counted, see [Verdict]: duplicates after a lost
// session, say, or an unconfirmed message that was stored after all.
//
// # What a history must have
//
// A message is known by its id (UUID) and attempt. All clients of a queue must
// be recorded into one log, or what others took looks lost, and what others
// sent, unexpected. What a recorder cannot see is written down by hand with
// [Log.Add]: other programs' messages (PublishInvoke and PublishOK, Deliver and
// Settled), bindings that somebody else made or took away (Bind, Unbind), queues
// that somebody emptied or deleted (Purged), a broker that lost its memory
// (Crash), and what was in the queues at the end (Left).
//
// # How it judges
//
// Events are in the order in which they were noticed, which is not always that
// in which things happened. The checker takes for certain only what the log
// shows to be so: a publish came before another if it had returned when the
// other began, a message was in hand from when it was noticed until its settling
// began, a binding held for a publish that began after it and ended before
// it was taken away. So a violation is one, whatever the goroutines did; and
// two things at the same time, in whatever order, are none.
//
// A driver is not judged by what it does not claim: without CanConfirm nothing
// that it published is lost, without CanBalance no prefetch is held against it, and
// without CanRequeue it need not say that a message is redelivered.
package history
