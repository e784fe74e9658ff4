package memory

import (
	"slices"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// routes says which queues a message goes to. Publishers read it under its own lock, which is held
// for the look-up only and nests inside every other lock. It is changed with the broker's control
// lock held as well, so whoever has that may read without.
type routes struct {
	mu        sync.RWMutex
	queues    map[string]*queue
	replies   map[string]*queue // apart, so that a reply address can name no other queue
	exchanges map[string]*exchange
}

// find returns the queue of a Queue or Reply endpoint, or nil.
func (r *routes) find(e adapters.Endpoint) *queue {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e.Kind == adapters.Reply {
		return r.replies[e.Name]
	}
	return r.queues[e.Name]
}

// has reports whether an exchange of this kind exists.
func (r *routes) has(e adapters.Endpoint) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.exchanges[e.Name]
	return x != nil && (x.kind == e.Kind || e.Kind == adapters.Exchange)
}

// match returns the queues to which an exchange routes a message, each once.
func (r *routes) match(name string, m *record) []*queue {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.exchanges[name]
	if x == nil {
		return nil
	}
	switch x.kind {
	case adapters.Fanout:
		return slices.Clone(x.byKey[""])
	case adapters.Topic:
		var found []*queue
		x.patterns.match(m.key, func(q *queue) { found = append(found, q) })
		return found
	case headers:
		return x.byHeaders.match(m.metadata)
	}
	return slices.Clone(x.byKey[m.key])
}

// exchange is one binding table.
type exchange struct {
	kind      adapters.Kind
	byKey     map[string][]*queue // of Fanout, which has just the key "", and of Direct
	patterns  topicTrie[*queue]   // of Topic
	byHeaders headerBindings      // of headers
}

func newExchange(kind adapters.Kind) *exchange {
	return &exchange{kind: kind, byKey: make(map[string][]*queue)}
}

// binding names one binding of a queue.
type binding struct {
	exchange, key string
	headers       string // of a headers exchange: see headersName
}

func (r *routes) bind(q *queue, b binding) {
	if _, bound := q.bindings[b]; bound {
		return
	}
	q.bindings[b] = struct{}{}
	if x := r.exchanges[b.exchange]; x.kind == adapters.Topic {
		x.patterns.add(b.key, q)
	} else {
		x.byKey[b.key] = append(x.byKey[b.key], q)
	}
}

func (r *routes) unbind(q *queue, b binding) {
	if _, bound := q.bindings[b]; !bound {
		return
	}
	delete(q.bindings, b)
	x := r.exchanges[b.exchange]
	switch x.kind {
	case adapters.Topic:
		x.patterns.remove(b.key, q)
		return
	case headers:
		x.byHeaders = slices.DeleteFunc(x.byHeaders, func(h headerBinding) bool { return h.queue == q && h.name == b.headers })
		return
	}
	left := slices.DeleteFunc(x.byKey[b.key], func(o *queue) bool { return o == q })
	if len(left) == 0 {
		delete(x.byKey, b.key)
	} else {
		x.byKey[b.key] = left
	}
}
