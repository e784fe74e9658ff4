package memory

import (
	"cmp"
	"context"
	"strconv"

	"github.com/motifmq/motif/adapters"
)

// Compare implements [adapters.Inspector].
func (c *Client) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) (found []adapters.Difference, err error) {
	if err := cmp.Or(c.check(ctx, "compare"), adapters.ValidateCompare(e, spec)); err != nil {
		return nil, err
	}
	err = c.change(ctx, "compare", adapters.Source{Endpoint: e}, func() error {
		if e.Kind == adapters.Queue {
			q := c.broker.routes.queues[e.Name]
			if q == nil {
				return notFound("queue", e.Name)
			}
			found = differences(spec, q.spec)
			return nil
		}
		x := c.broker.routes.exchanges[e.Name]
		switch {
		case x == nil:
			return notFound("exchange", e.Name)
		case x.kind != e.Kind:
			found = []adapters.Difference{{Property: "kind", Declared: e.Kind.String(), Actual: x.kind.String()}}
		}
		return nil
	})
	return found, err
}

// differences compares two specs field by field.
func differences(declared, actual adapters.QueueSpec) (found []adapters.Difference) {
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
