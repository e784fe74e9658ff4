package adapters

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Ability is a set of things that not every broker can do.
type Ability uint64

const (
	CanFanout       Ability = 1 << iota // Fanout endpoints
	CanRoute                            // Direct endpoints
	CanTopic                            // Topic endpoints
	CanReply                            // Reply sources, and publishing to their addresses
	CanGroup                            // durable groups of subscribers to an exchange
	CanPersist                          // queues, bindings and confirmed messages survive a broker restart
	CanConfirm                          // Publish returns nil only when the broker has the message
	CanReturn                           // Mandatory publications
	CanDelay                            // delayed publications
	CanExpire                           // time to live, of a message and of a queue's messages
	CanPrioritize                       // priorities
	CanLimit                            // queues of bounded length
	CanDeadLetter                       // dead-letter queues kept by the broker
	CanGet                              // the driver is a Getter
	CanPassive                          // using a queue as it stands
	CanRequeue                          // Requeue puts a message back to its original place, marked redelivered
	CanBalance                          // fair dispatch: prefetch holds, and an idle consumer gets the next message
	CanAutoDelete                       // queues that go with their last consumer
	CanUnbind                           // the driver is an Unbinder
	CanExchange                         // publishing to Exchange endpoints
	CanSingleActive                     // queues of which one consumer at a time gets the messages

	// The driver is an Inspector that can:
	CanInspect      // say what a queue holds
	CanList         // list queues
	CanBrowse       // look at messages that wait
	CanListBindings // say what a queue is bound to
	CanCompare      // say in what a queue or an exchange differs from a declaration
	CanPurge        // drop what waits in a queue
	CanDelete       // delete a queue

	CanReportHealth // the driver is a HealthReporter

	// AllV1 is all abilities of version 1, as the in-process broker has them, and RabbitMQ with its
	// management API. What a later version adds is not in it: an adapter that claims it does not
	// claim what it has never heard of.
	AllV1 Ability = 1<<iota - 1

	CanCancel = AllV1 + 1      // the driver is a Canceller
	CanUnique = CanCancel << 1 // publications that are UniqueFor a time
)

var abilityNames = [...]string{
	"fanout", "direct routing", "topic routing", "reply addresses", "groups", "persistence", "confirms",
	"mandatory messages", "delay", "TTL", "priority", "queues of bounded length", "dead letters", "taking single messages", "queues as they stand", "requeue in place", "fair dispatch", "auto-delete", "unbinding", "existing exchanges", "single active consumers",
	"inspection", "listing queues", "browsing", "listing bindings", "comparing with a declaration", "purging", "deleting queues", "reporting health",
	"cancelling", "unique messages",
}

// Abilities returns all that this version knows, which grow with it, for code that looks at each: a
// suite, a table.
func Abilities() []Ability {
	all := make([]Ability, len(abilityNames))
	for i := range all {
		all[i] = 1 << i
	}
	return all
}

// String returns the names of the abilities in the set, separated by commas.
func (a Ability) String() string {
	var names []string
	for rest := uint64(a); rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros64(rest); i < len(abilityNames) {
			names = append(names, abilityNames[i])
		} else {
			names = append(names, fmt.Sprintf("ability(%d)", i))
		}
	}
	return strings.Join(names, ", ")
}

// Has reports whether all of b is in the set.
func (a Ability) Has(b Ability) bool { return a&b == b }

// Features says what an adapter is and can do.
type Features struct {
	Adapter string // its name, as error messages show it: "memory", "amqp"
	Ability Ability

	MaxBody  int           // most bytes of a payload; 0 = no limit of the adapter's own
	MaxDelay time.Duration // longest Delay, a longer one is ErrInvalid; 0 = no limit of the adapter's own
}

// Require returns nil if the adapter has all that is needed, else an
// *[UnsupportedError] that names what is missing.
func (f Features) Require(need Ability) error {
	if missing := need &^ f.Ability; missing != 0 {
		return &UnsupportedError{Adapter: f.Adapter, Missing: missing}
	}
	return nil
}
