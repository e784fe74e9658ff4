package memory

import (
	"slices"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// routes says which queues a message goes to. Publishers read it under its own
// lock, which is held for the look-up only and nests inside every other.
// It is changed with the broker's control lock held as well, so who has that
// may read without.
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

// has reports whether an exchange exists.
func (r *routes) has(e adapters.Endpoint) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.exchanges[e.Name]
	return x != nil && x.kind == e.Kind
}

// match returns the queues bound to an exchange for key, each once.
func (r *routes) match(name, key string) []*queue {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.exchanges[name]
	switch {
	case x == nil:
		return nil
	case x.kind != adapters.Topic:
		return slices.Clone(x.byKey[key])
	}
	var found []*queue
	x.patterns.match(key, func(q *queue) { found = append(found, q) })
	return found
}

// exchange is one binding table.
type exchange struct {
	kind     adapters.Kind
	byKey    map[string][]*queue // of Fanout, which has just the key "", and of Direct
	patterns topicTrie[*queue]   // of Topic
}

// binding names one binding of a queue.
type binding struct {
	exchange, key string
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
	if x.kind == adapters.Topic {
		x.patterns.remove(b.key, q)
		return
	}
	left := slices.DeleteFunc(x.byKey[b.key], func(o *queue) bool { return o == q })
	if len(left) == 0 {
		delete(x.byKey, b.key)
	} else {
		x.byKey[b.key] = left
	}
}
