package history

import (
	"context"
	"iter"

	"github.com/motifmq/motif/adapters"
)

// inspector returns the driver's own, or an error for lack of an ability.
func (r *Driver) inspector(missing adapters.Ability) (adapters.Inspector, error) {
	if i, ok := r.driver.(adapters.Inspector); ok {
		return i, nil
	}
	return nil, &adapters.UnsupportedError{Adapter: r.Features().Adapter, Missing: missing}
}

// Inspect implements [adapters.Inspector].
func (r *Driver) Inspect(ctx context.Context, queue string) (_ adapters.QueueInfo, err error) {
	i, err := r.inspector(adapters.CanInspect)
	if err != nil {
		return adapters.QueueInfo{}, err
	}
	back := r.l.Call(ctx, r.client, "Inspect")
	defer func() { back(err) }()
	return i.Inspect(ctx, queue)
}

// Queues implements [adapters.Inspector].
func (r *Driver) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	i, err := r.inspector(adapters.CanList)
	if err != nil {
		return func(yield func(adapters.QueueInfo, error) bool) { yield(adapters.QueueInfo{}, err) }
	}
	return i.Queues(ctx)
}

// Browse implements [adapters.Inspector]. What it shows is not delivered, and not written down.
func (r *Driver) Browse(ctx context.Context, queue string, limit int) (_ []adapters.Delivery, err error) {
	i, err := r.inspector(adapters.CanBrowse)
	if err != nil {
		return nil, err
	}
	back := r.l.Call(ctx, r.client, "Browse")
	defer func() { back(err) }()
	return i.Browse(ctx, queue, limit)
}

// Bindings implements [adapters.Inspector].
func (r *Driver) Bindings(ctx context.Context, queue string) (_ []adapters.Binding, err error) {
	i, err := r.inspector(adapters.CanListBindings)
	if err != nil {
		return nil, err
	}
	back := r.l.Call(ctx, r.client, "Bindings")
	defer func() { back(err) }()
	return i.Bindings(ctx, queue)
}

// Compare implements [adapters.Inspector].
func (r *Driver) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) (_ []adapters.Difference, err error) {
	i, err := r.inspector(adapters.CanCompare)
	if err != nil {
		return nil, err
	}
	back := r.l.Call(ctx, r.client, "Compare")
	defer func() { back(err) }()
	return i.Compare(ctx, e, spec)
}

// Purge implements [adapters.Inspector].
func (r *Driver) Purge(ctx context.Context, queue string) (_ int, err error) {
	i, err := r.inspector(adapters.CanPurge)
	if err != nil {
		return 0, err
	}
	back := r.l.Call(ctx, r.client, "Purge")
	defer func() { back(err) }()
	defer r.l.Add(Event{Op: Purged, Client: r.client, Queue: queue})
	return i.Purge(ctx, queue)
}

// Delete implements [adapters.Inspector].
func (r *Driver) Delete(ctx context.Context, queue string, only adapters.Condition) (err error) {
	i, err := r.inspector(adapters.CanDelete)
	if err != nil {
		return err
	}
	back := r.l.Call(ctx, r.client, "Delete")
	defer func() { back(err) }()
	defer r.l.Add(Event{Op: Purged, Client: r.client, Queue: queue})
	return i.Delete(ctx, queue, only)
}
