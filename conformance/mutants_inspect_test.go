package conformance

import (
	"context"
	"iter"
	"slices"

	"github.com/motifmq/motif/adapters"
)

var inspectMutants = []mutant{
	{"counts what is in hand as waiting", "inspect/depth", telling(func(q *adapters.QueueInfo) { q.Ready += max(q.Unacked, 0) })},
	{"knows of no consumers", "inspect/depth", telling(func(q *adapters.QueueInfo) { q.Consumers = 0 })},
	{"shows the last ones first", "inspect/browse", showing(slices.Reverse[[]adapters.Delivery])},
	{"shows no metadata", "inspect/browse", showing(func(found []adapters.Delivery) {
		for _, d := range found {
			d.Message.Metadata = nil
		}
	})},
	{"does not say that there is more to look at", "inspect/browse", showing(func(found []adapters.Delivery) {
		for i := range found {
			found[i].Remaining = 0
		}
	})},
	{"looks at messages by taking them", "inspect/browse-takes-nothing", func(m *mutated) {
		m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
			return m.taken(ctx, name, limit, adapters.Ack)
		}
	}},
	{"shows all, and puts back what it was asked for", "inspect/browse-takes-nothing", func(m *mutated) {
		browse := m.browse
		m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
			if _, err := m.taken(ctx, name, adapters.MaxBrowse, adapters.Requeue); err != nil {
				return nil, err
			}
			return browse(ctx, name, limit)
		}
	}},
	{"puts what it looked at behind the rest", "inspect/browse-takes-nothing", func(m *mutated) {
		m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
			found, err := m.taken(ctx, name, limit, adapters.Ack)
			for _, d := range found {
				_ = m.Client.Publish(ctx, adapters.Publication{To: queue(name, 1).Endpoint, Properties: d.Properties}, d.Message)
			}
			return found, err
		}
	}},
	{"looks at any number of messages", "inspect/browse-bounds", func(m *mutated) {
		browse := m.browse
		m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
			return browse(ctx, name, max(1, min(limit, adapters.MaxBrowse)))
		}
	}},
	{"lists no more than two queues", "inspect/list", listing(func(yield func(adapters.QueueInfo) bool) func(adapters.QueueInfo) bool {
		n := 0
		return func(q adapters.QueueInfo) bool { n++; return n <= 2 && yield(q) }
	})},
	{"lists queues twice", "inspect/list", listing(func(yield func(adapters.QueueInfo) bool) func(adapters.QueueInfo) bool {
		return func(q adapters.QueueInfo) bool { return yield(q) && yield(q) } //nolint:staticcheck // twice
	})},
	{"remembers bindings that were removed", "inspect/bindings", func(m *mutated) {
		bindings, known := m.bindings, []adapters.Binding(nil)
		m.bindings = func(ctx context.Context, name string) ([]adapters.Binding, error) {
			bound, err := bindings(ctx, name)
			for _, b := range bound {
				if !slices.Contains(known, b) {
					known = append(known, b)
				}
			}
			return slices.Clone(known), err
		}
	}},
	{"finds everything the same", "inspect/compare", comparing(func([]adapters.Difference) []adapters.Difference { return nil })},
	{"finds everything different", "inspect/compare", comparing(func(found []adapters.Difference) []adapters.Difference {
		return append(found, adapters.Difference{Property: "durable"})
	})},
	{"makes the queue that it is to compare", "inspect/compare", func(m *mutated) {
		compare := m.compare
		m.compare = func(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) ([]adapters.Difference, error) {
			found, err := compare(ctx, e, spec)
			if err != nil && e.Kind == adapters.Queue {
				_ = m.Client.Declare(ctx, adapters.Source{Endpoint: e, Queue: spec})
			}
			return found, err
		}
	}},
	{"does not say what it has purged", "inspect/purge", purging(func(_ *mutated, purge func() (int, error)) (int, error) {
		_, err := purge()
		return 0, err
	})},
	{"purges nothing", "inspect/purge", func(m *mutated) {
		inspect := m.inspect
		m.purge = func(ctx context.Context, name string) (int, error) {
			q, err := inspect(ctx, name)
			return q.Ready, err
		}
	}},
	{"purges what is in hand", "inspect/purge", purging(func(m *mutated, purge func() (int, error)) (int, error) {
		n, err := purge()
		m.settle = func(ctx context.Context, d adapters.Delivery, _ adapters.Outcome) error {
			return d.Settle(ctx, adapters.Ack)
		}
		return n, err
	})},
	{"makes dead letters of what it purges", "inspect/purge", func(m *mutated) {
		m.purge = func(ctx context.Context, name string) (int, error) {
			found, err := m.taken(ctx, name, adapters.MaxBrowse, adapters.Reject)
			return len(found), err
		}
	}},
	{"deletes nothing", "inspect/delete", deleting(func(context.Context, string, adapters.Condition) error { return nil })},
	{"deletes whatever the condition", "inspect/delete-if", func(m *mutated) {
		remove := m.remove
		m.remove = func(ctx context.Context, name string, _ adapters.Condition) error { return remove(ctx, name, 0) }
	}},
	{"looks for consumers where it is to look for messages", "inspect/delete-if", func(m *mutated) {
		remove := m.remove
		m.remove = func(ctx context.Context, name string, only adapters.Condition) error {
			if only != 0 {
				only = adapters.IfUnused
			}
			return remove(ctx, name, only)
		}
	}},
	{"ends subscriptions whose queue is deleted", "inspect/deleted-in-use", func(m *mutated) {
		subscribe := m.subscribe
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			if err := m.Client.Declare(ctx, s); err != nil {
				return nil, err
			}
			s.Passive = true
			return subscribe(ctx, s)
		}
	}},
	{"makes the queue that it is asked for", "inspect/not-found", func(m *mutated) {
		inspect := m.inspect
		m.inspect = func(ctx context.Context, name string) (adapters.QueueInfo, error) {
			_ = m.Client.Declare(ctx, queue(name, 1))
			return inspect(ctx, name)
		}
	}},
	{"loses its session where there is no queue", "inspect/not-found", purging(func(m *mutated, purge func() (int, error)) (int, error) {
		n, err := purge()
		if err != nil {
			m.Cut()
		}
		return n, err
	})},
	{"asks a broker that stands still for as long as that lasts", "inspect/bounded", func(m *mutated) {
		purge := m.purge
		m.purge = func(ctx context.Context, name string) (int, error) {
			return purge(context.WithoutCancel(ctx), name)
		}
	}},
	{"fails where a session was lost", "inspect/heals", func(m *mutated) {
		remove := m.remove
		sub, _ := m.Client.Subscribe(context.Background(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
		address := sub.Address()
		m.remove = func(ctx context.Context, name string, only adapters.Condition) error {
			if sub.Address() != address {
				return adapters.ErrUnavailable
			}
			return remove(ctx, name, only)
		}
	}},
	{"purges only where it may publish", "inspect/while-blocked", func(m *mutated) {
		purge := m.purge
		m.purge = func(ctx context.Context, name string) (int, error) {
			if err := m.Client.Publish(ctx, to(queue(name, 1)), text("probe")...); err != nil {
				return 0, err
			}
			return purge(ctx, name)
		}
	}},
}

// comparing finds other differences.
func comparing(change func([]adapters.Difference) []adapters.Difference) func(*mutated) {
	return func(m *mutated) {
		compare := m.compare
		m.compare = func(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) ([]adapters.Difference, error) {
			found, err := compare(ctx, e, spec)
			return change(found), err
		}
	}
}

// telling says something else of queues.
func telling(change func(*adapters.QueueInfo)) func(*mutated) {
	return func(m *mutated) {
		inspect := m.inspect
		m.inspect = func(ctx context.Context, name string) (adapters.QueueInfo, error) {
			q, err := inspect(ctx, name)
			change(&q)
			return q, err
		}
	}
}

// showing shows something else than waits in a queue.
func showing(change func([]adapters.Delivery)) func(*mutated) {
	return func(m *mutated) {
		browse := m.browse
		m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
			found, err := browse(ctx, name, limit)
			change(found)
			return found, err
		}
	}
}

// listing lists other queues.
func listing(change func(func(adapters.QueueInfo) bool) func(adapters.QueueInfo) bool) func(*mutated) {
	return func(m *mutated) {
		list := m.list
		m.list = func(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
			return func(yield func(adapters.QueueInfo, error) bool) {
				next := change(func(q adapters.QueueInfo) bool { return yield(q, nil) })
				for q, err := range list(ctx) {
					if err != nil || !next(q) {
						return
					}
				}
			}
		}
	}
}

// purging purges in another way.
func purging(do func(m *mutated, purge func() (int, error)) (int, error)) func(*mutated) {
	return func(m *mutated) {
		purge := m.purge
		m.purge = func(ctx context.Context, name string) (int, error) {
			return do(m, func() (int, error) { return purge(ctx, name) })
		}
	}
}

func deleting(remove func(context.Context, string, adapters.Condition) error) func(*mutated) {
	return func(m *mutated) { m.remove = remove }
}

// taken takes messages, settles them, and returns them.
func (m *mutated) taken(ctx context.Context, name string, limit int, o adapters.Outcome) (all []adapters.Delivery, err error) {
	s := queue(name, 1)
	s.Passive = true
	for range limit {
		d, err := m.Client.Get(ctx, s)
		if err != nil {
			break
		}
		all = append(all, d)
	}
	for _, d := range all {
		_ = d.Settle(ctx, o)
	}
	return all, nil
}

// limitInspector refuses what takes an ability that is not claimed.
func limitInspector(m *mutated, require func(adapters.Ability) error) {
	inspect, list, browse, bindings, compare, purge, remove := m.inspect, m.list, m.browse, m.bindings, m.compare, m.purge, m.remove
	m.inspect = func(ctx context.Context, name string) (adapters.QueueInfo, error) {
		if err := require(adapters.CanInspect); err != nil {
			return adapters.QueueInfo{}, err
		}
		return inspect(ctx, name)
	}
	m.list = func(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
		if err := require(adapters.CanList); err != nil {
			return func(yield func(adapters.QueueInfo, error) bool) { yield(adapters.QueueInfo{}, err) }
		}
		return list(ctx)
	}
	m.browse = func(ctx context.Context, name string, limit int) ([]adapters.Delivery, error) {
		if err := require(adapters.CanBrowse); err != nil {
			return nil, err
		}
		return browse(ctx, name, limit)
	}
	m.bindings = func(ctx context.Context, name string) ([]adapters.Binding, error) {
		if err := require(adapters.CanListBindings); err != nil {
			return nil, err
		}
		return bindings(ctx, name)
	}
	m.compare = func(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) ([]adapters.Difference, error) {
		if err := require(adapters.CanCompare); err != nil {
			return nil, err
		}
		return compare(ctx, e, spec)
	}
	m.purge = func(ctx context.Context, name string) (int, error) {
		if err := require(adapters.CanPurge); err != nil {
			return 0, err
		}
		return purge(ctx, name)
	}
	m.remove = func(ctx context.Context, name string, only adapters.Condition) error {
		if err := require(adapters.CanDelete); err != nil {
			return err
		}
		return remove(ctx, name, only)
	}
}
