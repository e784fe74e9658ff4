package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind of a violation.
type Kind string

const (
	Lost        Kind = "lost"         // confirmed, and neither delivered nor in its queue
	WrongAck    Kind = "wrong ack"    // delivered and gone, and nobody acknowledged it
	Phantom     Kind = "phantom"      // delivered without an id
	Unexpected  Kind = "unexpected"   // delivered and never sent
	Misrouted   Kind = "misrouted"    // delivered from a queue that it was not sent to
	Ghost       Kind = "ghost"        // delivered though its publish failed for certain
	Unexplained Kind = "unexplained"  // delivered twice as if for the first time
	Resurrected Kind = "resurrected"  // delivered again, with no session lost and nothing requeued
	OutOfOrder  Kind = "out of order" // delivered to the queue's only consumer after what was published later
	Unfair      Kind = "unfair"       // a subscription held more than its prefetch
	Overdue     Kind = "overdue"      // a call came back long after the end of its ctx
	Hung        Kind = "hung"         // a call did not come back
)

// Violation is a way in which a history breaks the promises.
type Violation struct {
	Kind   Kind
	ID     string // of the message, if it is about one
	Queue  string
	Detail string
}

func (v Violation) String() string {
	s := string(v.Kind) + ":"
	switch {
	case v.Queue != "" && v.Kind == Unfair:
		s += fmt.Sprintf(" queue %q", v.Queue)
	case v.Queue != "" || v.ID != "":
		s += fmt.Sprintf(" message %q in %q", v.ID, v.Queue)
	}
	return strings.TrimSuffix(s+" "+v.Detail, " ")
}

// Counts are the messages of a history, or of several.
type Counts struct {
	Attempted  int `json:"attempted"`  // messages given to a publish
	Confirmed  int `json:"confirmed"`  // of those, what the broker has for certain
	Unknown    int `json:"unknown"`    // of those not confirmed, how many may have been stored
	Delivered  int `json:"delivered"`  // deliveries
	Duplicated int `json:"duplicated"` // deliveries of what was delivered before
	Lost       int `json:"lost"`       // confirmed messages that nobody acknowledged and that are not there any more
}

// Add adds the counts of another history.
func (c *Counts) Add(o Counts) {
	c.Attempted += o.Attempted
	c.Confirmed += o.Confirmed
	c.Unknown += o.Unknown
	c.Delivered += o.Delivered
	c.Duplicated += o.Duplicated
	c.Lost += o.Lost
}

// Verdict is what a history amounts to.
type Verdict struct {
	Counts
	Recovered  int           // messages never confirmed, and there all the same
	Unexpected int           // deliveries of what nobody sent
	Gap        time.Duration // longest time between two deliveries

	Violations []Violation // none: the promises were kept
}

// String renders the numbers on one line.
func (v Verdict) String() string {
	return fmt.Sprintf("%d attempted, %d confirmed, %d unknown, %d recovered, %d delivered, %d duplicated, %d lost, %d unexpected, %d violations",
		v.Attempted, v.Confirmed, v.Unknown, v.Recovered, v.Delivered, v.Duplicated, v.Lost, v.Unexpected, len(v.Violations))
}

// Has reports whether there is a violation of a kind.
func (v Verdict) Has(k Kind) bool {
	return slices.ContainsFunc(v.Violations, func(v Violation) bool { return v.Kind == k })
}
