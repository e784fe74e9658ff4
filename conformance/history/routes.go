package history

import (
	"slices"

	"github.com/motifmq/motif/adapters"
)

// routes are the bindings of each exchange, at some point of a history.
type routes map[adapters.Endpoint][]*route

// route is the bindings of one queue to one exchange.
type route struct {
	queue    string
	bindings []binding
}

type binding struct {
	key   string
	since int // the event from which on it holds for certain
}

func (r routes) bind(e *Event, at int) {
	if !e.To.Kind.IsExchange() {
		return
	}
	i := slices.IndexFunc(r[e.To], func(t *route) bool { return t.queue == e.Queue })
	if i < 0 {
		i = len(r[e.To])
		r[e.To] = append(r[e.To], &route{queue: e.Queue})
	}
	t := r[e.To][i]
	for _, key := range boundKeys(e) {
		if !slices.ContainsFunc(t.bindings, func(b binding) bool { return b.key == key }) {
			t.bindings = append(t.bindings, binding{key, at})
		}
	}
}

// boundKeys returns the keys of a binding, those that mean the same in one spelling.
func boundKeys(e *Event) []string {
	switch e.To.Kind {
	case adapters.Fanout:
		return []string{""}
	case adapters.Topic:
		keys := make([]string, len(e.Keys))
		for i, key := range e.Keys {
			keys[i] = adapters.NormalPattern(key)
		}
		return keys
	}
	return e.Keys
}

func (r routes) unbind(e *Event) {
	keys := boundKeys(e)
	for _, t := range r[e.To] {
		if t.queue == e.Queue {
			t.bindings = slices.DeleteFunc(t.bindings, func(b binding) bool {
				return len(e.Keys) == 0 || slices.Contains(keys, b.key)
			})
		}
	}
}

// targets calls yield with each queue that a publish leads to by what was
// bound before an event.
func (r routes) targets(to adapters.Endpoint, key string, before int, yield func(queue string)) {
	if to.Kind == adapters.Queue {
		yield(to.Name)
		return
	}
	if to.Kind == adapters.Exchange { // whatever it was declared as
		for _, kind := range []adapters.Kind{adapters.Fanout, adapters.Direct, adapters.Topic} {
			r.targets(adapters.Endpoint{Kind: kind, Name: to.Name}, key, before, yield)
		}
		return
	}
	for _, t := range r[to] {
		if slices.ContainsFunc(t.bindings, func(b binding) bool { return b.since < before && matches(to.Kind, b.key, key) }) {
			yield(t.queue)
		}
	}
}

func matches(kind adapters.Kind, pattern, key string) bool {
	switch kind {
	case adapters.Fanout:
		return true
	case adapters.Direct:
		return pattern == key
	case adapters.Topic:
		return adapters.MatchTopic(pattern, key)
	}
	return false
}
