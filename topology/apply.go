package topology

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

// mostAtOnce is how many declarations are under way at a time. An adapter has its own bound for
// what it asks the broker at a time; beyond that they wait for a new queue to settle.
const mostAtOnce = 32

// Apply creates what of t is missing at the broker: exchanges, queues, bindings. Nothing is
// changed or deleted. It tries everything, several at a time, and joins the errors: what exists
// with other properties is adapters.ErrMismatch, and stays as it is (see [Migrate]); a queue that
// is to be used as it stands, and is missing, is adapters.ErrNotFound.
func (t Topology) Apply(ctx context.Context, d adapters.Driver) error {
	var declarations []func() error
	add := func(s adapters.Source, err error) {
		declarations = append(declarations, func() error {
			if err == nil {
				err = d.Features().Require(s.Needs())
			}
			if err == nil {
				err = d.Declare(ctx, s)
			}
			return err
		})
	}
	for _, e := range t.Exchanges {
		end, err := e.endpoint()
		switch {
		case err != nil:
			add(adapters.Source{}, err)
		case t.hasGroup(e.Name): // they declare it
		case end.Kind == adapters.Fanout:
			add(adapters.Source{Endpoint: end}, nil)
		default:
			add(adapters.Source{Endpoint: end, Keys: []string{"#"}}, nil) // private: its queue is no part of this, nor are its keys
		}
	}
	for _, groups := range []bool{true, false} { // groups first, for their queues have to settle before they are bound
		for _, q := range t.Queues {
			if (q.Exchange != "") == groups && !t.hasDeadLettersOf(q) {
				add(t.source(q))
			}
		}
	}
	if err := errors.Join(together(declarations)...); err != nil {
		return fmt.Errorf("topology: %w", err)
	}
	return nil
}

// together calls all functions, mostAtOnce at a time, and returns their errors.
func together(all []func() error) []error {
	errs := make([]error, len(all))
	var next atomic.Int64
	var calls sync.WaitGroup
	for range min(mostAtOnce, len(all)) {
		calls.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				errs[i] = all[i]()
			}
		})
	}
	calls.Wait()
	return errs
}

// hasDeadLettersOf reports whether a queue is declared together with one whose dead letters it has.
func (t Topology) hasDeadLettersOf(q Queue) bool {
	if q.Passive || q.Exchange != "" || q.Spec != (adapters.QueueSpec{}) {
		return false
	}
	for _, other := range t.Queues {
		if other.Spec.DeadLetter == q.Name && !other.Passive && other.Name != q.Name {
			return true
		}
	}
	return false
}

// hasGroup reports whether an exchange is declared together with the queue of a group.
func (t Topology) hasGroup(exchange string) bool {
	for _, q := range t.Queues {
		if q.Exchange == exchange && !q.Passive {
			return true
		}
	}
	return false
}

// Prune removes what a report says that nobody declares any more: bindings, and queues that have
// neither messages nor consumers. Others, and exchanges, of which an adapter does not know who uses
// them, are left, and named in the error. Whoever publishes to a queue while it is deleted may lose
// that: see the adapter's Delete.
func (t Topology) Prune(ctx context.Context, d adapters.Driver, r Report) error {
	var errs []error
	for _, f := range r.Findings {
		if f.State != Undeclared {
			continue
		}
		var err error
		switch f.What {
		case whatBinding:
			err = t.unbind(ctx, d, f)
		case whatQueue:
			ops, ok := d.(adapters.Inspector)
			if err = d.Features().Require(adapters.CanDelete); ok && err == nil {
				err = ops.Delete(ctx, f.Name, adapters.IfEmpty|adapters.IfUnused)
			}
		default:
			err = fmt.Errorf("%w: exchange %q is left: who uses it is not known", adapters.ErrUnsupported, f.Name)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("topology: %w", err)
	}
	return nil
}

func (t Topology) unbind(ctx context.Context, d adapters.Driver, f Finding) error {
	s, err := t.Source(f.Name)
	if err != nil {
		return err
	}
	u, ok := d.(adapters.Unbinder)
	if !ok {
		return &adapters.UnsupportedError{Adapter: d.Features().Adapter, Missing: adapters.CanUnbind}
	}
	if s.Queue, s.Keys = (adapters.QueueSpec{}), nil; f.Key != "" {
		s.Keys = []string{f.Key}
	}
	return u.Unbind(ctx, s)
}
