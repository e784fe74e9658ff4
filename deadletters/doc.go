// Package deadletters looks after queues of dead letters: it lists and explains what is in them,
// sends letters back to where they died, or elsewhere, drops them, and writes them to a file and
// back. It needs no more than a driver, and the queue may be anybody's: one that package patterns
// filled, or one that the broker did.
//
//	letters := deadletters.New(driver, "orders.dead")
//	look, err := letters.List(ctx, deadletters.Filter{}, 100)
//	report, err := letters.Replay(ctx, deadletters.ReplayOptions{})
//
// # What is promised
//
// A letter leaves its queue only when the broker has confirmed it where it was sent to. Whatever
// interrupts a replay loses none. What may be double is in the [Report], and nothing else is: a
// letter that comes again because its session was lost is recognised, and taken away rather than
// sent a second time, if its first copy was confirmed.
//
// What a replay sends carries the run's name in [HeaderReplay]. A letter that dies again during the
// run comes back with it, and is left alone for the rest of the run.
//
// A process that is killed cannot write a report. A [Journal] remembers for it: the next replay
// with the same one takes away what was confirmed, and reports what may have been sent.
//
// # Order
//
// Letters are sent in the order of their queue. Those that are left keep theirs, on the broker in
// the process and in RabbitMQ's classic queues always. In a quorum queue those that are left go
// behind letters that had been returned before and were not looked at this time, which can be only
// if a Limit or a cancelled ctx ends a run early; and if the session is lost, what was in hand
// comes back in any order.
//
// Replay and Drop consume the queue. RabbitMQ deletes a queue that was declared auto-delete with
// its last consumer, so they are not for such a queue.
package deadletters
