package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// State is what is wrong with a part of a topology.
type State string

// The states of a [Finding].
const (
	Missing    State = "missing"    // it is declared, and does not exist
	Differs    State = "differs"    // it exists with other properties
	Undeclared State = "undeclared" // it exists, is ours, and nobody declares it any more
)

// Finding is one thing in which a broker is not as declared.
type Finding struct {
	State State  `json:"state"`
	What  string `json:"what"` // "queue", "exchange" or "binding"
	Name  string `json:"name"` // of a binding its queue

	Exchange    string                `json:"exchange,omitempty"` // of a binding
	Key         string                `json:"key,omitempty"`
	Differences []adapters.Difference `json:"differences,omitempty"`
}

// String returns the finding as a line for people.
func (f Finding) String() string {
	what := fmt.Sprintf("%s %q", f.What, f.Name)
	if f.What == whatBinding {
		what = fmt.Sprintf("binding of queue %q to exchange %q", f.Name, f.Exchange)
		if f.Key != "" {
			what += fmt.Sprintf(" with key %q", f.Key)
		}
	}
	text := fmt.Sprintf("%-10s %s", f.State, what)
	for i, d := range f.Differences {
		text += map[bool]string{true: ": ", false: "; "}[i == 0] + d.String()
	}
	return text
}

const (
	whatQueue    = "queue"
	whatExchange = "exchange"
	whatBinding  = "binding"
)

// Report is how a broker differs from a topology.
type Report struct {
	Findings  []Finding `json:"findings"`
	Unchecked []string  `json:"unchecked,omitempty"` // what could not be looked at, and why
	Partial   bool      `json:"partial,omitempty"`   // something that is declared is in Unchecked
}

// OK reports whether everything that could be looked at is as declared, and nothing is undeclared.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Check compares a broker with t. It needs an adapter with CanCompare. Without CanListBindings it
// does not look at bindings, and without CanList not for queues that nobody declares any more,
// unless they are in one of the earlier topologies: [Report] says so in Unchecked, and is Partial
// if what it did not look at is declared.
//
// What others may have made is none of Check's business. Undeclared are queues and exchanges of an
// earlier topology, queues that have the name of a group of a declared exchange, or that of the
// dead letters of a declared queue, and bindings of a declared group to its exchange.
func (t Topology) Check(ctx context.Context, d adapters.Driver, earlier ...Topology) (Report, error) {
	c := check{ctx: ctx, t: t, features: d.Features(), report: Report{Findings: []Finding{}}}
	ops, ok := d.(adapters.Inspector)
	if !ok {
		return c.report, &adapters.UnsupportedError{Adapter: c.features.Adapter, Missing: adapters.CanCompare}
	}
	if c.ops = ops; !c.features.Ability.Has(adapters.CanCompare) {
		return c.report, c.features.Require(adapters.CanCompare)
	}
	for _, look := range []func() error{
		c.exchanges, c.queues,
		func() error { return c.earlier(earlier) }, func() error { return c.undeclared(earlier) },
	} {
		if err := look(); err != nil {
			return c.report, fmt.Errorf("topology: %w", err)
		}
	}
	return c.report, nil
}

// check is one Check.
type check struct {
	ctx      context.Context //nolint:containedctx // of one call
	t        Topology
	ops      adapters.Inspector
	features adapters.Features
	report   Report
}

func (c *check) add(f Finding) {
	if !slices.ContainsFunc(c.report.Findings, func(had Finding) bool {
		return had.What == f.What && had.Name == f.Name && had.Exchange == f.Exchange && had.Key == f.Key
	}) {
		c.report.Findings = append(c.report.Findings, f)
	}
}

// has reports whether the adapter can do something; what not, is noted once.
func (c *check) has(a adapters.Ability, unchecked string) bool {
	err := c.features.Require(a)
	if note := fmt.Sprintf("%s: %v", unchecked, err); err != nil && !slices.Contains(c.report.Unchecked, note) {
		c.report.Unchecked = append(c.report.Unchecked, note)
	}
	return err == nil
}

func (c *check) exchanges() error {
	for _, e := range c.t.Exchanges {
		end, err := e.endpoint()
		if err != nil {
			return err
		}
		if err := c.compare(whatExchange, end, adapters.QueueSpec{}); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) compare(what string, e adapters.Endpoint, spec adapters.QueueSpec) error {
	found, err := c.ops.Compare(c.ctx, e, spec)
	switch {
	case errors.Is(err, adapters.ErrNotFound):
		c.add(Finding{State: Missing, What: what, Name: e.Name})
	case err != nil:
		return err
	case len(found) > 0:
		c.add(Finding{State: Differs, What: what, Name: e.Name, Differences: found})
	}
	return nil
}

func (c *check) queues() error {
	for _, q := range c.t.Queues {
		s, err := c.t.source(q)
		if err == nil {
			err = c.features.Require(s.Needs())
		}
		switch e := (adapters.Endpoint{Kind: adapters.Queue, Name: q.Name}); {
		case err != nil:
			return err
		case q.Passive:
			found, err := c.exists(q.Name)
			if err != nil {
				return err
			}
			c.report.Partial = c.report.Partial || !c.features.Ability.Has(adapters.CanInspect)
			if !found {
				c.add(Finding{State: Missing, What: whatQueue, Name: q.Name})
			}
		default:
			if err = c.compare(whatQueue, e, q.Spec); err == nil {
				err = c.bindings(q, s)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *check) exists(queue string) (bool, error) {
	if !c.has(adapters.CanInspect, "queues that are used as they stand") {
		return true, nil
	}
	_, err := c.ops.Inspect(c.ctx, queue)
	if errors.Is(err, adapters.ErrNotFound) {
		return false, nil
	}
	return true, err
}

func (c *check) bindings(q Queue, s adapters.Source) error {
	if q.Exchange == "" {
		return nil
	}
	if !c.has(adapters.CanListBindings, "bindings") {
		c.report.Partial = true
		return nil
	}
	bound, err := c.ops.Bindings(c.ctx, q.Name)
	if err != nil && !errors.Is(err, adapters.ErrNotFound) {
		return err
	}
	want := make([]string, 0, 1+len(s.Keys))
	for _, key := range s.Keys {
		if s.Kind == adapters.Topic {
			key = adapters.NormalPattern(key)
		}
		want = append(want, key)
	}
	if s.Kind == adapters.Fanout {
		want = append(want, "")
	}
	for _, key := range want {
		if !slices.Contains(bound, adapters.Binding{Exchange: q.Exchange, Key: key}) {
			c.add(Finding{State: Missing, What: whatBinding, Name: q.Name, Exchange: q.Exchange, Key: key})
		}
	}
	for _, b := range bound {
		if b.Exchange == q.Exchange && !slices.Contains(want, b.Key) {
			c.add(Finding{State: Undeclared, What: whatBinding, Name: q.Name, Exchange: b.Exchange, Key: b.Key})
		}
	}
	return nil
}

// earlier looks for what was declared once.
func (c *check) earlier(all []Topology) error {
	for _, old := range all {
		for _, q := range old.Queues {
			if _, declared := c.t.Find(q.Name); declared || q.Passive {
				continue
			}
			found, err := c.exists(q.Name)
			if err != nil {
				return err
			}
			if found {
				c.add(Finding{State: Undeclared, What: whatQueue, Name: q.Name})
			}
		}
		for _, e := range old.Exchanges {
			if slices.ContainsFunc(c.t.Exchanges, func(now Exchange) bool { return now.Name == e.Name }) {
				continue
			}
			end, err := e.endpoint()
			if err == nil {
				_, err = c.ops.Compare(c.ctx, end, adapters.QueueSpec{})
			}
			switch {
			case err == nil:
				c.add(Finding{State: Undeclared, What: whatExchange, Name: e.Name})
			case !errors.Is(err, adapters.ErrNotFound):
				return err
			}
		}
	}
	return nil
}

// undeclared looks for queues whose names say that they are ours.
func (c *check) undeclared(earlier []Topology) error {
	if !c.has(adapters.CanList, "queues that nobody declares any more") {
		return nil
	}
	for info, err := range c.ops.Queues(c.ctx) {
		if err != nil {
			return err
		}
		if _, declared := c.t.Find(info.Name); !declared && c.ours(info.Name, earlier) {
			c.add(Finding{State: Undeclared, What: whatQueue, Name: info.Name})
		}
	}
	return nil
}

const deadSuffix = ".dead"

func (c *check) ours(queue string, earlier []Topology) bool {
	name := strings.TrimSuffix(queue, deadSuffix)
	for _, t := range append(earlier, c.t) {
		if _, declared := t.Find(name); declared && name != queue {
			return true
		}
		for _, e := range t.Exchanges {
			// A colon in the rest is of another exchange's name, for groups have none in theirs.
			if group, ok := strings.CutPrefix(name, e.Name+":"); ok && group != "" && !strings.Contains(group, ":") {
				return true
			}
		}
	}
	return false
}
