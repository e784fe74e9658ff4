package amqp

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// version is a version of RabbitMQ. The zero value is an unknown one.
type version struct{ major, minor, patch int }

var (
	oldest           = version{3, 10, 0} // the oldest that is tested
	defaultTypes     = version{3, 11, 0} // a queue that was declared without a type may be of any
	consumerTimeouts = version{4, 3, 0}  // consumer timeouts belong to the queue and the consumer
	strictLevels     = version{4, 3, 0}  // quorum queues have strict priorities
	nacksLeaving     = version{4, 1, 0}  // an exchange may nack because of a queue that is going away: 4.0 does not, 4.3 does
	sacFixed         = version{4, 3, 6}  // a queue with a single active consumer survives that all are timed out
	quickQueues      = version{4, 3, 0}  // new quorum queues work sooner
)

// parseVersion parses a version such as "4.3.6", "4.1.0-rc.1" or "3.13.7+2".
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

// passiveNeedsConfigure reports whether a passive declaration needs the right to configure. In all
// other versions it needs none, or any right.
func (r version) passiveNeedsConfigure() bool { return r == version{4, 2, 6} || r == version{4, 3, 0} }

func (r version) known() bool { return r != version{} }

// atLeast reports whether r is that version or a later one. An unknown version is not.
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

// brokerOf returns a broker's name for people, and its version if it is RabbitMQ.
func brokerOf(properties amqp091.Table) (name string, r version) {
	product, _ := properties["product"].(string)
	version, _ := properties["version"].(string)
	if product == "RabbitMQ" {
		r = parseVersion(version)
	}
	return strings.TrimSpace(clip(cmp.Or(product, "a broker without a name")) + " " + clip(version)), r
}

// warnUnknownBroker warns, once for each, of a broker that is not tested.
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
	err := fmt.Errorf("amqp: %s at %s: the guarantees are for RabbitMQ %s and later: %w", conn.brokerName, conn.address, oldest, adapters.ErrUnsupported)
	d.emit(Event{Kind: Unknown, Role: conn.supervisor.role, Address: conn.address, Generation: conn.generation, Err: err})
	d.cfg.Logger.Warn("motif: the guarantees may not hold with this broker, which is not tested", "broker", conn.brokerName, "address", conn.address, "known", "RabbitMQ "+oldest.String()+" and later")
}
