package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// rules know what is determined. They are asked before each operation, while
// the in-process broker plays, and what they object to is left out in every
// world. Each objection is to something that RabbitMQ does not promise.
type rules struct {
	p        *player
	quorum   bool // queues of RabbitMQ may be quorum queues
	version  memory.Version
	restarts bool   // the script has a restart
	perish   bool   // transient messages were published
	last     string // verb
	counts   map[string]counts
	queues   map[string]*knowledge
}

// knowledge is what is known of a queue beyond its counts.
type knowledge struct {
	// uncertain: it is not known which consumer holds which message. Classic and
	// quorum queues both take turns among the consumers with room, but one that had
	// none gets in line again at a moment that depends on the type of the queue.
	uncertain bool

	// written: a transient message that waits in it may be on disk. 4.0 writes those that
	// wait behind others, if it is not consumed fast.
	written bool

	// vague: it is not known what of it counts as delivered. 4.0 loses its count in a
	// restart that loses transient messages, but may go on with it behind those that were
	// written.
	vague bool
}

func newRules(p *player, s script) *rules {
	return &rules{
		p: p, quorum: s.on == "quorum", queues: make(map[string]*knowledge), counts: make(map[string]counts),
		version: cmp.Or(s.version, memory.Newest), restarts: s.has("restart"),
	}
}

func (r *rules) of(label string) *knowledge {
	k := r.queues[label]
	if k == nil {
		k = new(knowledge)
		r.queues[label] = k
	}
	return k
}

// inHand counts what of a queue is in hand and can still be settled.
func (r *rules) inHand(label string) int {
	n := 0
	for _, h := range r.p.hand[label] {
		if !h.stale {
			n++
		}
	}
	return n
}

// due is how many messages the consumers of a queue may receive.
func (r *rules) due(label string) int { return r.counts[label].Unacked - r.inHand(label) }

func (r *rules) drops(label string) bool {
	q := r.p.specs[label]
	return q.MaxLength > 0 && q.Overflow == adapters.DropHead
}

// strict reports whether priorities are those of a quorum queue.
func (r *rules) strict(q adapters.QueueSpec) bool {
	return r.quorum && r.version == memory.RabbitMQ43 && !q.AutoDelete && (q.MaxLength == 0 || q.Overflow == adapters.DropHead)
}

// isGrave reports whether dead letters of a queue go to this one.
func (r *rules) isGrave(name string) bool {
	for label := range r.counts {
		if r.p.specs[label].DeadLetter == name {
			return true
		}
	}
	return false
}

// objection says why an operation is left out, or "".
func (r *rules) objection(o op) string {
	if label := o.source.QueueName(); label != "" && !o.source.Passive && o.verb != "unbind" {
		_, exists := r.counts[label]
		_, grave := r.counts[o.source.Queue.DeadLetter]
		if exists && r.p.specs[label] != o.source.Queue && o.source.Queue.DeadLetter != "" && !grave {
			return "declaring takes steps: a dead-letter queue is declared before the queue turns out to be another"
		}
	}
	switch o.verb {
	case "consume":
		return r.toConsume(o)
	case "get":
		if r.p.specs[o.source.QueueName()].AutoDelete {
			return "what is got from a queue that may go at any time"
		}
	case "publish":
		return r.toPublish(o)
	case "take":
		if len(r.p.at(o.name)) == 0 || r.due(o.name) == 0 {
			return "nothing is due"
		}
	case "ack", "requeue", "reject":
		return r.toSettle(o)
	case "stop":
		return r.toStop(o)
	case "delete":
		switch n := len(r.p.at(o.name)); {
		case !r.quorum:
		case r.isGrave(o.name):
			return "a dead letter with nowhere to go waits in its quorum queue, in case that there is such a queue again"
		case slices.ContainsFunc(r.p.at(o.name), func(c *consumer) bool { return c.client != r.p.at(o.name)[0].client }):
			return "two clients who declare a quorum queue at the same moment may find themselves disconnected (541)"
		case r.version == memory.RabbitMQ43 && r.inHand(o.name) > 0:
			return "4.3 cancels the consumers of a quorum queue some moments before the queue is gone, and in the same way when they held a message for too long: what is in hand may be stale"
		case n > 0 && (r.last == "cut" || r.last == "restart" || r.last == "delete"):
			return "a consumer that comes to a quorum queue at the moment it is deleted may not be told"
		}
	case "cut":
		return r.toLosing(o.name)
	case "restart":
		for label := range r.counts {
			if c := r.counts[label]; r.p.specs[label].AutoDelete && c.Ready+c.Unacked > 0 {
				return "a node that stops may or may not delete an auto-delete queue"
			} else if max := r.p.specs[label].MaxLength; max > 0 && !r.drops(label) && c.Ready+c.Unacked > max {
				// RabbitMQ looks at the limit before it looks at what to do past it.
				return "a queue that refuses drops from its head when its node starts, if it held more than its limit"
			}
		}
		return r.toLosing("a", "b")
	}
	return ""
}

func (r *rules) toPublish(o op) string {
	refuses := false
	if o.pub.To.Kind.IsExchange() {
		if why := r.toCopy(o); why != "" {
			return why
		}
	}
	expires := o.pub.TTL > 0 && o.pub.TTL < long && o.pub.Delay == 0 && !o.pub.Lasting
	for label, n := range r.counts {
		q := r.p.specs[label]
		if expires && o.pub.Priority > 0 && q.MaxPriority > 0 && n.Ready > 0 && !r.strict(q) {
			return "a classic priority queue does not look whether what gets ahead of others has expired"
		}
		refuses = refuses || q.MaxLength > 0 && !r.drops(label)
		expires = expires || q.MessageTTL > 0 && q.MessageTTL < long
	}
	switch c := r.p.consumers[o.pub.To.Name]; {
	case o.pub.To.Kind == adapters.Reply && (c == nil || c.source.Kind != adapters.Reply):
		return "no such reply address"
	case o.pub.Transient && r.quorum && r.restarts:
		return "a quorum queue keeps transient messages over a restart, too"
	case o.pub.Delay > 0 && refuses:
		return "when a delayed message that finds its queue full is tried again"
	case expires && len(o.ids) > 1:
		return "whether a message expires before the next one comes"
	}
	return ""
}

// toCopy objects to a publish through an exchange that one of several queues may refuse.
func (r *rules) toCopy(o op) string {
	queues, full := 0, false
	for label, n := range r.counts {
		c := r.p.consumers[label]
		if c == nil && !strings.HasPrefix(label, o.pub.To.Name+":") || c != nil && c.source.Name != o.pub.To.Name {
			continue
		}
		queues++
		max := r.p.specs[label].MaxLength
		full = full || max > 0 && !r.drops(label) && n.Ready+len(o.ids) > max
	}
	if full && queues > 1 {
		return "what one queue refuses is sent through its exchange again, and other queues get it so often as there is time for"
	}
	return ""
}

func (r *rules) toConsume(o op) string {
	if r.p.consumers[o.name] != nil {
		return "a consumer of this name"
	}
	for _, c := range r.p.at(o.source.QueueName()) {
		if c.source.Passive || o.source.Passive {
			return "whether a passive consumer finds the queue after a cut depends on who comes first"
		}
	}
	return ""
}

func (r *rules) toSettle(o op) string {
	h := r.p.find(o.name, o.ids[0])
	switch {
	case h == nil:
		return "not in hand"
	case h.stale || o.verb != "requeue":
		return ""
	}
	return r.toReturn(o.name, []*held{h}, 0)
}

func (r *rules) toStop(o op) string {
	c := r.p.consumers[o.name]
	switch {
	case c == nil || c.over:
		return "no such consumer"
	case len(r.p.at(c.label)) == 1:
		return r.toReturn(c.label, nil, r.due(c.label))
	case r.of(c.label).uncertain:
		return "it is not known what the consumer holds"
	case r.due(c.label) > 0 && r.of(c.label).vague:
		return vaguely
	}
	return ""
}

const vaguely = "4.0 may not mark what is given back, once it lost transient messages in a restart: it depends on which it had written"

func (r *rules) toLosing(clients ...string) string {
	for label, n := range r.counts {
		var lost []*held
		others, theirs, stay := 0, 0, 0
		channels := make(map[any]bool)
		for _, h := range r.p.hand[label] {
			switch {
			case h.stale:
			case slices.Contains(clients, h.client):
				lost = append(lost, h)
				if h.from != nil {
					channels[h.from] = true
				} else {
					channels[h] = true // each get has a channel of its own
				}
			default:
				others++
			}
		}
		for _, c := range r.p.at(label) {
			if !slices.Contains(clients, c.client) {
				others++
				stay++
			} else {
				theirs++
				channels[c] = true
			}
		}
		if q := r.p.specs[label]; q.AutoDelete && q.DeadLetter != "" && n.Unacked > 0 && len(channels) > 1 {
			return "what is given back expires, or goes with the queue, whichever channel is closed first"
		}
		if q := r.p.specs[label]; r.drops(label) && q.DeadLetter != "" && n.Unacked > 1 && n.Ready+n.Unacked > q.MaxLength && len(channels) > 1 {
			return "what is too much for the queue dies in the order in which the channels are closed that give it back"
		}
		if (stay > 0 || r.quorum && theirs > 0) && n.Unacked > 0 && len(channels) > 1 {
			return "others get first what comes back from the channel that is closed first, also those whose own channel is about to be"
		}
		if others > 0 && len(lost)+theirs > 0 && n.Unacked > 0 && r.of(label).uncertain {
			return "it is not known what the client holds of " + label
		}
		due := 0
		if theirs > 0 {
			due = r.due(label)
		}
		if why := r.toReturn(label, lost, due); why != "" {
			return why
		}
	}
	return ""
}

// toReturn objects to giving back messages of a queue, in hand or not received
// yet, where their order among those that were given back is not determined, or
// whether they are marked.
func (r *rules) toReturn(label string, lost []*held, due int) string {
	switch {
	case len(lost)+due == 0:
		return ""
	case r.of(label).vague:
		return vaguely
	case !r.quorum:
		return ""
	}
	if q := r.p.specs[label]; r.drops(label) && q.DeadLetter != "" && r.counts[label].Ready+len(lost)+due > q.MaxLength+1 {
		return "a quorum queue that drops several at once dead-letters the last one first"
	}
	holders := make(map[any]bool)
	for _, h := range lost {
		if h.from != nil {
			holders[h.from] = true
		} else {
			holders[h] = true
		}
	}
	if due > 0 { // then there is one consumer
		for _, c := range r.p.at(label) {
			holders[c] = true
		}
	}
	if len(lost)+due > 1 && len(holders) > 1 {
		return fmt.Sprintf("quorum queue %s: it delivers in the order in which they are given back what %d holders give back at once", label, len(holders))
	}
	return ""
}

// change is what an operation does to a queue, as far as it is known before.
type change struct {
	settled  int // leave the hands of who held them
	returned int // of these, go back to the queue
	room     map[*consumer]bool
	fresh    bool // it is another queue afterwards, or the same one empty
}

// expect says what o is about to do to a queue.
func (r *rules) expect(o op, label string) change {
	c := change{room: make(map[*consumer]bool)}
	consumers := r.p.at(label)
	for _, x := range consumers {
		n := x.held
		if len(consumers) == 1 {
			n += r.due(label)
		}
		c.room[x] = n < x.source.Prefetch || o.verb == "cut" || o.verb == "restart"
	}
	lose := func(clients ...string) {
		for _, h := range r.p.hand[label] {
			if !h.stale && slices.Contains(clients, h.client) {
				c.returned++
			}
		}
		if slices.ContainsFunc(consumers, func(x *consumer) bool { return slices.Contains(clients, x.client) }) {
			c.returned += r.due(label)
			c.fresh = consumers[0].source.Private()
		}
	}
	switch o.verb {
	case "ack", "requeue", "reject":
		h := r.p.find(o.name, o.ids[0])
		if o.name != label || h.stale {
			break
		}
		c.settled = 1
		if o.verb == "requeue" {
			c.returned = 1
		}
		if h.from != nil {
			c.room[h.from] = true
		}
	case "stop":
		if x := r.p.consumers[o.name]; x.label == label && len(consumers) == 1 {
			c.returned = r.due(label)
		}
	case "cut":
		lose(o.name)
	case "restart":
		lose("a", "b")
	case "delete":
		c.fresh = o.name == label
	}
	c.settled = max(c.settled, c.returned)
	return c
}

// learn draws the conclusions of an operation.
func (r *rules) learn(s *step, expected map[string]change) {
	r.perish = r.perish || s.op.pub.Transient
	for label, after := range s.counts {
		before, c := r.counts[label], expected[label]
		if c.fresh {
			delete(r.queues, label)
			continue
		}
		k := r.of(label)
		r.learnOfDisk(k, s.op, label, before, after)
		pushed := after.Unacked - before.Unacked + c.settled
		if after.Unacked == 0 {
			k.uncertain = false
			continue
		}
		candidates := 0
		for _, x := range r.p.at(label) {
			if known, before := c.room[x]; !before || known || x.held < x.source.Prefetch {
				candidates++
			}
		}
		if candidates > 1 && pushed > 0 {
			k.uncertain = true
		}
	}
	for label := range r.queues {
		if _, exists := s.counts[label]; !exists {
			delete(r.queues, label)
		}
	}
	r.counts, r.last = s.counts, s.op.verb
}

// learnOfDisk draws the conclusions for what a queue keeps on disk.
func (r *rules) learnOfDisk(k *knowledge, o op, label string, before, after counts) {
	if r.version != memory.RabbitMQ40 {
		return
	}
	behind := o.pub.Transient && before.Ready+len(o.ids) > 1
	died := r.perish && after.Ready > 1 && r.isGrave(label)
	k.vague = k.vague || k.written && o.verb == "restart"
	k.written = after.Ready > 0 && (k.written || behind || died)
}
