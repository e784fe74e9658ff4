package amqp

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// version is a version of RabbitMQ. The zero value is one that is not known.
type version struct{ major, minor, patch int }

var (
	oldest           = version{3, 10, 0} // that the tests know
	consumerTimeouts = version{4, 3, 0}  // from here on they are the queue's and the consumer's
	strictLevels     = version{4, 3, 0}  // from here on quorum queues have priorities, strictly
	nacksLeaving     = version{4, 1, 0}  // from here on an exchange may nack for a queue that goes: 4.0 does not, 4.3 does
	quickQueues      = version{4, 3, 0}  // from here on quorum queues work sooner
)

// parseVersion reads what a broker says of itself: "4.3.6", "4.1.0-rc.1", "3.13.7+2".
func parseVersion(s string) version {
	s, _, _ = strings.Cut(s, "-")
	s, _, _ = strings.Cut(s, "+")
	var numbers [3]int
	for i, part := range strings.SplitN(s, ".", len(numbers)) {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return version{}
		}
		numbers[i] = n
	}
	return version{numbers[0], numbers[1], numbers[2]}
}

// passiveNeedsConfigure reports whether a passive declaration takes the right to configure. Before and after it
// takes none, or any.
func (r version) passiveNeedsConfigure() bool { return r == version{4, 2, 6} || r == version{4, 3, 0} }

func (r version) known() bool { return r != version{} }

// atLeast reports whether r is that release or a later one. An unknown one is not.
func (r version) atLeast(other version) bool {
	switch {
	case r.major != other.major:
		return r.major > other.major
	case r.minor != other.minor:
		return r.minor > other.minor
	}
	return r.patch >= other.patch
}

func (r version) String() string {
	if !r.known() {
		return "of an unknown version"
	}
	return fmt.Sprintf("%d.%d.%d", r.major, r.minor, r.patch)
}

// brokerOf reads what a broker says of itself when a client connects: a name for people, and the
// version if it is RabbitMQ.
func brokerOf(properties amqp091.Table) (name string, r version) {
	product, _ := properties["product"].(string)
	version, _ := properties["version"].(string)
	if product == "RabbitMQ" {
		r = parseVersion(version)
	}
	return strings.TrimSpace(clip(cmp.Or(product, "a broker without a name")) + " " + clip(version)), r
}

// warnUnknownBroker says, once for each, of a broker that the promises are not tested with.
func (d *Driver) warnUnknownBroker(conn *connection) {
	if conn.version.atLeast(oldest) {
		return
	}
	d.mu.Lock()
	_, met := d.unknownBrokers[conn.brokerName]
	d.unknownBrokers[conn.brokerName] = struct{}{}
	d.mu.Unlock()
	if met {
		return
	}
	err := fmt.Errorf("amqp: %s at %s: promises are for RabbitMQ %s and later: %w", conn.brokerName, conn.address, oldest, adapters.ErrUnsupported)
	d.emit(Event{Kind: Unknown, Role: conn.supervisor.role, Address: conn.address, Generation: conn.generation, Err: err})
	d.cfg.Logger.Warn("motif: a broker that is not known to keep the promises", "broker", conn.brokerName, "address", conn.address, "known", "RabbitMQ "+oldest.String()+" and later")
}
