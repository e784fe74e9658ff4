package memory

import (
	"slices"
	"strings"
	"sync"
)

// topicTrie is the bindings of a topic exchange: a set of (pattern, value)
// pairs that finds the values for a key by [adapters.MatchTopic]'s rules. The
// zero value is empty and ready to use.
//
// It runs the patterns of all bindings side by side, as one automaton: a trie
// of the patterns' words, of which a set of nodes is active after each
// word of the key. No node is active twice, so a key costs at most its words
// times the nodes, whatever the patterns; usually it is a few nodes a word.
//
// match may run concurrently with itself, not with add or remove.
type topicTrie[T comparable] struct {
	root    topicNode[T]
	values  map[T]*topicValue[T]
	marks   int   // ids given out are 0..marks-1
	free    []int // those of them that are free again
	walkers sync.Pool
}

// topicNode is what the patterns that begin with the same words have in common.
type topicNode[T comparable] struct {
	parent *topicNode[T]
	word   string // the last one on the way here

	plain  map[string]*topicNode[T] // by word
	star   *topicNode[T]            // by any one word
	hash   *topicNode[T]            // by any words, or none
	values []*topicValue[T]         // bound with exactly the words up to here

	id int // of a hash node, for marking it as visited
}

// topicValue is a value with at least one binding.
type topicValue[T comparable] struct {
	value    T
	bindings int
	id       int // for marking it as visited
}

// add binds value with pattern, and reports whether it was not yet.
func (t *topicTrie[T]) add(pattern string, value T) bool {
	n := &t.root
	for word, more := "", pattern != ""; more; {
		word, pattern, more = strings.Cut(pattern, ".")
		n = t.child(n, word)
	}
	v := t.values[value]
	if v == nil {
		if t.values == nil {
			t.values = make(map[T]*topicValue[T])
		}
		v = &topicValue[T]{value: value, id: t.newID()}
		t.values[value] = v
	} else if slices.Contains(n.values, v) {
		return false
	}
	n.values = append(n.values, v)
	v.bindings++
	return true
}

// remove takes the binding of value with pattern away, and reports whether there
// was one.
func (t *topicTrie[T]) remove(pattern string, value T) bool {
	n := t.find(pattern)
	v := t.values[value]
	if n == nil || v == nil {
		return false
	}
	i := slices.Index(n.values, v)
	if i < 0 {
		return false
	}
	n.values = slices.Delete(n.values, i, i+1)
	if v.bindings--; v.bindings == 0 {
		delete(t.values, value)
		t.free = append(t.free, v.id)
	}
	t.prune(n)
	return true
}

// match calls visit once for each value that is bound with a pattern that
// matches key. visit must not change the trie.
func (t *topicTrie[T]) match(key string, visit func(value T)) {
	w, _ := t.walkers.Get().(*topicWalker[T])
	if w == nil {
		w = new(topicWalker[T])
	}
	defer t.walkers.Put(w)
	w.start(t.marks)

	w.enter(&t.root)
	for word, more := "", key != ""; more; {
		word, key, more = strings.Cut(key, ".")
		w.step(word)
	}
	for _, active := range [...][]*topicNode[T]{w.nodes, w.hashes} {
		for _, n := range active {
			for _, v := range n.values {
				if w.mark(v.id) {
					visit(v.value)
				}
			}
		}
	}
}

// find returns the node of pattern, or nil.
func (t *topicTrie[T]) find(pattern string) *topicNode[T] {
	n := &t.root
	for word, more := "", pattern != ""; more && n != nil; {
		word, pattern, more = strings.Cut(pattern, ".")
		switch word {
		case "*":
			n = n.star
		case "#":
			n = n.hash
		default:
			n = n.plain[word]
		}
	}
	return n
}

// child returns the node that word of a pattern leads to, made if need be.
func (t *topicTrie[T]) child(n *topicNode[T], word string) *topicNode[T] {
	switch word {
	case "*":
		if n.star == nil {
			n.star = &topicNode[T]{parent: n, word: word}
		}
		return n.star
	case "#":
		if n.hash == nil {
			n.hash = &topicNode[T]{parent: n, word: word, id: t.newID()}
		}
		return n.hash
	}
	c := n.plain[word]
	if c == nil {
		if n.plain == nil {
			n.plain = make(map[string]*topicNode[T])
		}
		c = &topicNode[T]{parent: n, word: word}
		n.plain[word] = c
	}
	return c
}

// prune removes n, and what is above it, as far as no binding needs it.
func (t *topicTrie[T]) prune(n *topicNode[T]) {
	for n.parent != nil && len(n.values)+len(n.plain) == 0 && n.star == nil && n.hash == nil {
		parent := n.parent
		switch n.word {
		case "*":
			parent.star = nil
		case "#":
			parent.hash = nil
			t.free = append(t.free, n.id)
		default:
			delete(parent.plain, n.word)
		}
		n = parent
	}
}

func (t *topicTrie[T]) newID() int {
	if last := len(t.free) - 1; last >= 0 {
		id := t.free[last]
		t.free = t.free[:last]
		return id
	}
	t.marks++
	return t.marks - 1
}

// topicWalker is the state of one match, kept for the next.
//
// A hash node stays active for the rest of the key, once it is. That is also
// the only way to become active twice: by staying, and by its parent becoming
// active again. So hash nodes are kept apart and marked when first entered;
// every other node has one parent and one word that leads to it.
type topicWalker[T comparable] struct {
	nodes  []*topicNode[T] // active after the words so far
	next   []*topicNode[T] // active after one word more
	hashes []*topicNode[T] // active now and until the end

	marked []uint64 // by id, the round in which it was last marked
	round  uint64
}

func (w *topicWalker[T]) start(marks int) {
	w.nodes, w.next, w.hashes = w.nodes[:0], w.next[:0], w.hashes[:0]
	if len(w.marked) < marks {
		w.marked = append(w.marked, make([]uint64, marks-len(w.marked))...)
	}
	w.round++
}

// step takes one word of the key.
func (w *topicWalker[T]) step(word string) {
	w.nodes, w.next = w.next[:0], w.nodes
	hashes := w.hashes // without those that are entered by this word
	for _, active := range [...][]*topicNode[T]{w.next, hashes} {
		for _, n := range active {
			if c := n.plain[word]; c != nil {
				w.enter(c)
			}
			if n.star != nil {
				w.enter(n.star)
			}
		}
	}
}

// enter makes n active, and the hash nodes that are reached from it by no word.
func (w *topicWalker[T]) enter(n *topicNode[T]) {
	w.nodes = append(w.nodes, n)
	for h := n.hash; h != nil && w.mark(h.id); h = h.hash {
		w.hashes = append(w.hashes, h)
	}
}

// mark reports whether this is the first time in this match.
func (w *topicWalker[T]) mark(id int) bool {
	if w.marked[id] == w.round {
		return false
	}
	w.marked[id] = w.round
	return true
}
