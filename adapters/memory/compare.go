package memory

import (
	"cmp"
	"context"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
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
			found = kit.Differences(spec, q.spec)
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
