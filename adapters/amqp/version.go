package amqp

import (
	"fmt"
	"strconv"
	"strings"
)

// release is a version of RabbitMQ. The zero value is one that is not known.
type release struct{ major, minor, patch int }

var (
	oldest           = release{3, 10, 0} // that the tests know
	consumerTimeouts = release{4, 3, 0}  // from here on they are the queue's and the consumer's
	strictLevels     = release{4, 3, 0}  // from here on quorum queues have priorities, strictly
	nacksLeaving     = release{4, 1, 0}  // from here on an exchange may nack for a queue that goes: 4.0 does not, 4.3 does
	quickQueues      = release{4, 3, 0}  // from here on quorum queues work sooner
	passiveRights    = release{4, 3, 1}  // from here on a passive declare takes any permission; some before want configure
)

// parseRelease reads what a broker says of itself: "4.3.6", "4.1.0-rc.1", "3.13.7+2".
func parseRelease(s string) release {
	s, _, _ = strings.Cut(s, "-")
	s, _, _ = strings.Cut(s, "+")
	var numbers [3]int
	for i, part := range strings.SplitN(s, ".", len(numbers)) {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return release{}
		}
		numbers[i] = n
	}
	return release{numbers[0], numbers[1], numbers[2]}
}

func (r release) known() bool { return r != release{} }

// since reports whether r is that release or a later one. An unknown one is not.
func (r release) since(other release) bool {
	switch {
	case r.major != other.major:
		return r.major > other.major
	case r.minor != other.minor:
		return r.minor > other.minor
	}
	return r.patch >= other.patch
}

func (r release) String() string {
	if !r.known() {
		return "of unknown version"
	}
	return fmt.Sprintf("%d.%d.%d", r.major, r.minor, r.patch)
}
