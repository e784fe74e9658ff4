package kit

import (
	"cmp"
	"strconv"

	"github.com/motifmq/motif/adapters"
)

// Differences says, field by field, in what a queue differs from what is declared: for the Compare
// of an [adapters.Inspector].
func Differences(declared, actual adapters.QueueSpec) (found []adapters.Difference) {
	differ := func(property, declared, actual string) {
		if declared != actual {
			found = append(found, adapters.Difference{Property: property, Declared: cmp.Or(declared, "none"), Actual: cmp.Or(actual, "none")})
		}
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	overflow := func(o adapters.Overflow) string {
		if o == adapters.DropHead {
			return "drop the oldest"
		}
		return "refuse the newest"
	}
	ttl := func(q adapters.QueueSpec) string {
		if q.MessageTTL == 0 {
			return ""
		}
		return q.MessageTTL.String()
	}
	differ("dead-letter queue", declared.DeadLetter, actual.DeadLetter)
	differ("max length", count(declared.MaxLength), count(actual.MaxLength))
	differ("overflow", overflow(declared.Overflow), overflow(actual.Overflow))
	differ("message TTL", ttl(declared), ttl(actual))
	differ("max priority", count(int(declared.MaxPriority)), count(int(actual.MaxPriority)))
	differ("auto-delete", strconv.FormatBool(declared.AutoDelete), strconv.FormatBool(actual.AutoDelete))
	differ("single active consumer", strconv.FormatBool(declared.SingleActive), strconv.FormatBool(actual.SingleActive))
	return found
}
