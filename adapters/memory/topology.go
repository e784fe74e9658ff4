package memory

import (
	"crypto/rand"
	"fmt"

	"github.com/motifmq/motif/adapters"
)

// Names that the broker makes begin with one of these.
const (
	privatePrefix = "amq.gen-"
	replyPrefix   = "amq.memory.reply."
)

// declare makes what s describes exist and returns its queue, a new one if it is private. If
// something exists with other properties, nothing has changed. The control lock is held, as
// everywhere in this file.
func (b *Broker) declare(s adapters.Source) (*queue, error) {
	if s.Passive {
		if q := b.routes.queues[s.QueueName()]; q != nil {
			return q, nil
		}
		return nil, fmt.Errorf("memory: queue %q: %w", s.QueueName(), adapters.ErrNotFound)
	}
	if s.Kind.IsExchange() {
		if err := b.checkExchange(s.Endpoint); err != nil {
			return nil, err
		}
	}
	if !s.Private() {
		if err := b.checkQueue(s.QueueName(), s.Queue); err != nil {
			return nil, err
		}
	}
	if s.Queue.DeadLetter != "" {
		if err := b.checkQueue(s.Queue.DeadLetter, adapters.QueueSpec{}); err != nil {
			return nil, err
		}
	}

	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	if s.Kind.IsExchange() {
		b.makeExchange(s.Endpoint)
	}
	if s.Queue.DeadLetter != "" {
		b.makeQueue(s.Queue.DeadLetter, adapters.QueueSpec{})
	}
	q := b.sourceQueue(s)
	for _, binding := range bindings(s) {
		b.routes.bind(q, binding)
	}
	return q, nil
}

// sourceQueue returns the queue of s, and makes it if need be.
func (b *Broker) sourceQueue(s adapters.Source) *queue {
	switch {
	case s.Kind == adapters.Reply:
		q := b.newQueue(replyPrefix+rand.Text(), adapters.QueueSpec{}, classic, true)
		b.routes.replies[q.name] = q
		return q
	case s.Private():
		q := b.newQueue(privatePrefix+rand.Text(), adapters.QueueSpec{}, classic, true)
		b.routes.queues[q.name] = q
		return q
	}
	return b.makeQueue(s.QueueName(), s.Queue)
}

func bindings(s adapters.Source) []binding {
	if s.Kind == adapters.Fanout {
		return []binding{{exchange: s.Name}}
	}
	bindings := make([]binding, len(s.Keys))
	for i, key := range s.Keys {
		if s.Kind == adapters.Topic {
			key = adapters.NormalPattern(key)
		}
		bindings[i] = binding{exchange: s.Name, key: key}
	}
	return bindings
}

func (b *Broker) checkExchange(e adapters.Endpoint) error {
	if x := b.routes.exchanges[e.Name]; x != nil && x.kind != e.Kind {
		return fmt.Errorf("memory: exchange %q is %s, not %s: %w", e.Name, x.kind, e.Kind, adapters.ErrMismatch)
	}
	return nil
}

// declareExchange is declare for an exchange alone.
func (b *Broker) declareExchange(e adapters.Endpoint) error {
	if e.Kind == adapters.Exchange {
		return notFound("exchange", e.Name)
	}
	if err := b.checkExchange(e); err != nil {
		return err
	}
	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	b.makeExchange(e)
	return nil
}

// unbind removes those bindings of s that exist.
func (b *Broker) unbind(s adapters.Source) {
	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	if q := b.routes.queues[s.QueueName()]; q != nil {
		for _, binding := range bindings(s) {
			b.routes.unbind(q, binding)
		}
	}
}

func (b *Broker) checkQueue(name string, spec adapters.QueueSpec) error {
	if q := b.routes.queues[name]; q != nil && q.spec != spec {
		return mismatch(name, q.spec, spec)
	}
	return nil
}

// makeExchange and makeQueue need the lock of the routes too.
func (b *Broker) makeExchange(e adapters.Endpoint) {
	if b.routes.exchanges[e.Name] == nil {
		b.routes.exchanges[e.Name] = newExchange(e.Kind)
	}
}

func (b *Broker) makeQueue(name string, spec adapters.QueueSpec) *queue {
	q := b.routes.queues[name]
	if q == nil {
		q = b.newQueue(name, spec, b.order(spec), spec.AutoDelete)
		b.routes.queues[name] = q
	}
	return q
}

func (b *Broker) newQueue(name string, spec adapters.QueueSpec, o order, temporary bool) *queue {
	return &queue{broker: b, name: name, spec: spec, ready: backlog{order: o}, temporary: temporary, bindings: make(map[binding]struct{})}
}

// remove deletes q and all that is in it, and returns the subscriptions that
// lost their consumer by it.
func (b *Broker) remove(q *queue) []*subscription {
	b.routes.mu.Lock()
	for binding := range q.bindings {
		b.routes.unbind(q, binding)
	}
	delete(b.routes.queues, q.name)
	delete(b.routes.replies, q.name)
	b.routes.mu.Unlock()

	q.mu.Lock()
	defer q.unlock()
	consumers := q.consumers
	q.delete()
	var orphaned []*subscription
	for _, c := range consumers {
		orphaned = append(orphaned, c.sub)
		if c.unackedCount == 0 {
			delete(c.session.consumers, c)
		}
	}
	return orphaned
}

// afterDetach cleans up after q was left: by a consumer, in which case a temporary queue without
// another one goes, or only by what one had in hand. The others get what was requeued.
func (b *Broker) afterDetach(q *queue, byConsumer bool) {
	q.mu.Lock()
	if byConsumer && q.temporary && len(q.consumers) == 0 {
		q.mu.Unlock()
		b.remove(q)
		return
	}
	q.dispatch()
	q.unlock()
}
