package adapters

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Inspector is implemented by drivers that can look at the queues of their broker and clear them:
// for health checks, metrics and operators. A queue is named as [Source.QueueName] has it, and its
// properties do not matter: nothing is declared or bound.
//
// Each method has an ability of its own. One that the adapter does not claim is an
// [*UnsupportedError]. A queue that does not exist is [ErrNotFound], and what the user may not do
// [ErrAccess]. No call ends a subscription, a publish, or another call. As those of Driver, the
// methods are safe for concurrent use, return soon after ctx ends, and wait while a lost session is
// replaced.
type Inspector interface {
	// Inspect says what a queue holds at this moment (CanInspect).
	Inspect(ctx context.Context, queue string) (QueueInfo, error)

	// Queues goes through all queues that the driver's user can see, other programs' included, in
	// no particular order (CanList). The numbers may be older than those of Inspect. An error ends
	// the loop.
	Queues(ctx context.Context) iter.Seq2[QueueInfo, error]

	// Browse looks at the messages that wait in a queue, and leaves them there (CanBrowse). It
	// returns copies of the first ones, in the order in which they would be delivered; none, with
	// no error, if the queue is empty. Remaining of the last one is how many wait behind it. A copy
	// has no Settler.
	//
	// At most limit messages are returned, which is 1 to MaxBrowse, and fewer where their payloads
	// would exceed MaxBrowseBytes or the adapter cannot have so many in hand; but at least one.
	//
	// Order, Redelivered and Returned are untouched, unless an adapter says in its documentation
	// that it has to take a message to look at it, and give it back: then other consumers cannot
	// get it meanwhile, and it counts as returned once more. Attempt is untouched in any case.
	Browse(ctx context.Context, queue string, limit int) ([]Delivery, error)

	// Bindings says which exchanges a queue gets its messages from (CanListBindings), in no
	// particular order.
	Bindings(ctx context.Context, queue string) ([]Binding, error)

	// Purge drops the messages that wait in a queue, and returns how many they were (CanPurge).
	// None becomes a dead letter. Those that consumers hold stay.
	//
	// With an error that wraps ErrUnavailable or ctx.Err() it is not known whether they were
	// dropped.
	Purge(ctx context.Context, queue string) (int, error)

	// Delete deletes a queue with its bindings and all messages in it (CanDelete), unless a
	// condition is not met: then it is ErrPrecondition, and nothing has changed. A broker that
	// cannot check and delete in one step does so in two; the adapter's documentation says so.
	//
	// A subscription to the queue outlives it: it declares the queue again, see Driver.Subscribe.
	// To settle what was in hand has no effect.
	//
	// With an error that wraps ErrUnavailable or ctx.Err() it is not known whether it was deleted.
	Delete(ctx context.Context, queue string, only Condition) error

	// Compare says in what a queue or an exchange, as it stands, differs from what Declare would
	// make (CanCompare), and changes nothing: no difference means that Declare would accept it.
	// An exchange has its kind only, and spec is then zero. Bindings are not looked at. What does
	// not exist is ErrNotFound.
	Compare(ctx context.Context, e Endpoint, spec QueueSpec) ([]Difference, error)
}

// Difference is one property of a queue or an exchange that is not as declared, in the words of the
// broker, for people.
type Difference struct {
	Property string
	Declared string // "none" for a property that is not declared
	Actual   string
}

// String returns all three in a line.
func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, not %s", d.Property, d.Actual, d.Declared)
}

// QueueInfo is what a queue holds at one moment. A number is -1 if the broker does not report it.
type QueueInfo struct {
	Name      string
	Ready     int // messages that wait for a consumer with room: the depth of the queue
	Unacked   int // messages that consumers hold: in hand, or not received yet
	Consumers int // a broker may count those who hold what they took by Get, too

	// Oldest is the Timestamp of the message that would be delivered next: when its publisher says
	// that it was published. It is zero where none waits, where that one has no Timestamp, and
	// if the broker does not report it.
	Oldest time.Time
}

// Binding is one way from an exchange to a queue.
type Binding struct {
	Exchange string
	Key      string // Direct: the key; Topic: the pattern; "" where the exchange does not route by key
}

// Condition is what must hold for a queue to be deleted: a set, of which all must.
type Condition uint8

const (
	IfUnused Condition = 1 << iota // the queue has no consumers
	IfEmpty                        // no messages wait in it
)

// Limits of one [Inspector] Browse.
const (
	MaxBrowse      = 20_000   // messages
	MaxBrowseBytes = 64 << 20 // of their payloads together
)

// ValidateBrowse returns an error that wraps [ErrInvalid] where the arguments of a Browse break a
// rule that holds for every adapter, else nil.
func ValidateBrowse(queue string, limit int) error {
	if limit < 1 || limit > MaxBrowse {
		return fmt.Errorf("%w: browsing %d messages, which is not in 1..%d", ErrInvalid, limit, MaxBrowse)
	}
	return Endpoint{Queue, queue}.validate()
}

// ValidateCompare returns an error that wraps [ErrInvalid] where the arguments of a Compare break a
// rule that holds for every adapter, else nil.
func ValidateCompare(e Endpoint, spec QueueSpec) error {
	switch {
	case e.Kind == Reply || e.Kind == Exchange:
		return fmt.Errorf("%w: a %s is declared by others, and compared with nothing", ErrInvalid, e.Kind)
	case e.Kind != Queue && spec != (QueueSpec{}):
		return fmt.Errorf("%w: the properties of a queue, given to %s", ErrInvalid, e)
	}
	if err := e.validate(); err != nil {
		return err
	}
	return spec.validate(e.Name)
}

// Unmet returns an error that wraps [ErrPrecondition] if q does not meet the condition, else nil.
func (c Condition) Unmet(q QueueInfo) error {
	switch {
	case c&IfUnused != 0 && q.Consumers != 0:
		return fmt.Errorf("%w: queue %q has %d consumers", ErrPrecondition, clip(q.Name), q.Consumers)
	case c&IfEmpty != 0 && q.Ready != 0:
		return fmt.Errorf("%w: queue %q has %d messages", ErrPrecondition, clip(q.Name), q.Ready)
	}
	return nil
}
