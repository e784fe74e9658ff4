package history

import (
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Op is what happened.
type Op uint8

const (
	PublishInvoke  Op = iota // a message is given to the driver
	PublishTaken             // PublishAsync returned nil: what is published from now on comes after it
	PublishOK                // the broker has it
	PublishFail              // it certainly has not
	PublishUnknown           // it may have it, or some of the queues
	Subscribed               // a consumer came to a queue
	Deliver                  // a message is received
	Settled                  // the driver took its outcome
	Unsettled                // it did not
	SessionEnd               // what was delivered in a session can no longer be settled
	Bind                     // a queue was declared, and gets what is sent to an endpoint
	Unbind                   // and no longer does, for somebody is about to take it away; without Keys, none of it
	Purged                   // a queue was emptied or deleted: what was sent to it before may be gone
	Cancelled                // what was sent to an endpoint with an id and a delay may be gone
	Crash                    // the broker lost its memory: what it says of redelivery may be wrong, and what it was told just now be forgotten
	Left                     // a message was still in its queue at the end, or on its way to one ("")
	Returned                 // a call came back late or with an error

	ops = iota
)

var opNames = [ops]string{
	"publish-invoke", "publish-taken", "publish-ok", "publish-fail", "publish-unknown", "subscribed", "deliver", "settled",
	"unsettled", "session-end", "bind", "unbind", "purged", "cancelled", "crash", "left", "returned",
}

// String returns the op's name in lower case.
func (op Op) String() string {
	if int(op) < len(opNames) {
		return opNames[op]
	}
	return fmt.Sprintf("op(%d)", uint8(op))
}

// Event is one line of a history. Which fields mean something depends on Op.
// Those that tie events together are numbers from [Log.Number]; 0 is none.
type Event struct {
	At     time.Duration // since the history began
	Op     Op
	Client string

	ID      string // of the message
	Attempt int    // the same message with another attempt is another one; 0 is 1
	To      adapters.Endpoint
	Key     string
	Queue   string

	Keys    []string           // of Bind and Unbind; none for a fanout
	Spec    adapters.QueueSpec // of Bind: the queue's properties
	Passive bool               // of Bind: the queue was there, with properties that nobody knows

	Publish   uint64 // ties a publish to its outcome
	Batch     uint64 // ties the messages of one call to each other
	Droppable bool   // of a publish: may be dropped with nobody to blame (TTL, transient)
	Unordered bool   // of a publish: may come before or after others (delay, priority)
	Delayed   bool   // of a publish: with a delay, so that a crash while it waits may make it two

	Consumer    uint64 // ties a delivery to its Subscribed; 0 for one that was got
	Prefetch    int    // of Subscribed: the most that it may hold; 0 = as many as it likes
	Delivery    uint64 // ties a delivery to its settling
	Session     uint64 // of a delivery
	Redelivered bool
	Unmarked    bool             // of a delivery: it cannot be Redelivered, for the driver does not know
	Outcome     adapters.Outcome // of Settled

	// Begun is, of Deliver and Settled, how many events there were when the call
	// began that came to this. 0 = it took no time.
	Begun int

	Call string        // of Returned: the method
	Over time.Duration // of Returned: how long after the end of its ctx
	Err  error         // what the call returned; a Bind with an error may have worked
}

// attempt is what is meant by an event's attempt.
func (e *Event) attempt() int { return max(e.Attempt, 1) }
