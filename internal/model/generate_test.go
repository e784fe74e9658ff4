package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// generator makes up a sequence while the in-process broker plays it, so that
// most of what it does makes sense.
type generator struct {
	*rand.Rand
	p        *player
	restart  bool // wanted, and not yet there
	sources  []adapters.Source
	messages int
}

// generate makes the sequence of a seed. With restart it has a restart of the
// broker somewhere, which takes its time with RabbitMQ.
func generate(t *testing.T, seed uint64, on string, restart bool, v memory.Version) script {
	t.Helper()
	s := script{on: on, version: v}
	synctest.Test(t, func(t *testing.T) {
		w := newInProcess(s)
		defer w.close()
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), p: newPlayer(w, s), restart: restart}
		g.p.rules = newRules(g.p, s)
		g.p.rules.restarts = restart
		g.sources = g.topology()
		length := 6 + g.IntN(30)
		for tries := 0; len(s.ops) < length && tries < 10*length; tries++ {
			var o op
			if tries < len(g.sources) { // mostly there is something to work with
				o = op{verb: "declare", source: g.keyed(g.sources[tries])}
				if g.often(15) || o.source.Private() {
					continue
				}
			} else {
				o = g.op(len(s.ops)*2 > length)
			}
			g.p.meet(o)
			step, err := g.p.play(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if step.skipped == "" {
				s.ops = append(s.ops, o)
				g.restart = g.restart && o.verb != "restart"
			}
		}
	})
	return s
}

func pick[T any](g *generator, choices ...T) T { return choices[g.IntN(len(choices))] }

// often is true in so many of a hundred cases.
func (g *generator) often(percent int) bool { return g.IntN(100) < percent }

const short = 20 * time.Millisecond

// topology makes up the sources that the sequence is about.
func (g *generator) topology() []adapters.Source {
	all := []adapters.Source{{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "q1"}}}
	for _, s := range []adapters.Source{
		{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "q2"}},
		{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "fan"}, Group: "g"},
		{Endpoint: adapters.Endpoint{Kind: adapters.Direct, Name: "dir"}, Group: "g"},
		{Endpoint: adapters.Endpoint{Kind: adapters.Topic, Name: "top"}, Group: "g"},
		{Endpoint: adapters.Endpoint{Kind: adapters.Topic, Name: "top"}, Group: "h"},
		{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "fan"}},
		{Endpoint: adapters.Endpoint{Kind: adapters.Topic, Name: "top"}},
		{Endpoint: adapters.Endpoint{Kind: adapters.Reply}},
	} {
		if g.often(30) {
			all = append(all, s)
		}
	}
	for i := range all {
		if !all[i].Private() {
			all[i].Queue = g.spec(all[i].QueueName())
		}
	}
	return all
}

func (g *generator) spec(queue string) (q adapters.QueueSpec) {
	if g.often(30) {
		return q
	}
	if g.often(50) {
		q.DeadLetter = queue + ".dead"
	}
	if g.often(40) {
		q.MaxLength = 1 + g.IntN(3)
		q.Overflow = pick(g, adapters.DropHead, adapters.RejectPublish)
	}
	if g.often(20) {
		q.MessageTTL = pick(g, short, time.Hour)
	}
	if g.often(15) {
		q.MaxPriority = uint8(1 + g.IntN(3))
	}
	q.AutoDelete = g.often(8)
	return q
}

var (
	exact    = []string{"a", "b", "", "a.b", "a..b", "é", "#", "*", "x y"}
	patterns = []string{"#", "*", "a.*", "a.#", "#.b", "", "*.*", "a", "a..b", "#.a.#", "*.#"}
	keys     = []string{"", "a", "b", "a.b", "a..b", "b.a.b", ".", "é", "#", "*", "a.*", "x y", "a.", "A"}
)

// source returns one of the sequence, with keys.
func (g *generator) source() adapters.Source { return g.keyed(g.sources[g.IntN(len(g.sources))]) }

func (g *generator) keyed(s adapters.Source) adapters.Source {
	n := 1 + g.IntN(2)
	switch s.Kind {
	case adapters.Direct:
		for range n {
			s.Keys = append(s.Keys, pick(g, exact...))
		}
	case adapters.Topic:
		for range n {
			s.Keys = append(s.Keys, pick(g, patterns...))
		}
	case adapters.Queue, adapters.Fanout, adapters.Reply:
	}
	return s
}

// odd changes a source into one that may not fit what there is.
func (g *generator) odd(s adapters.Source) adapters.Source {
	switch {
	case s.Private():
	case g.often(12):
		s.Passive, s.Keys, s.Queue = true, nil, adapters.QueueSpec{}
	case g.often(5):
		s.Queue = g.spec(s.QueueName())
	}
	return s
}

// op makes up the next operation. late is set once the sequence is half over.
func (g *generator) op(late bool) op {
	if g.restart && late && g.often(30) {
		return op{verb: "restart"}
	}
	by := ""
	if g.often(15) {
		by = "b"
	}
	type choice struct {
		weight int
		op     op
	}
	choices := []choice{{25, op{verb: "publish"}}, {3, op{verb: "cut", name: pick(g, "a", "a", "b")}}}
	if label, ok := g.label(func(label string) bool { return len(g.p.hand[label]) > 0 }); ok {
		id := pick(g, g.p.hand[label]...).id
		choices = append(choices, choice{25, op{verb: pick(g, "ack", "ack", "requeue", "requeue", "reject"), name: label, ids: []string{id}}})
	}
	if label, ok := g.label(func(label string) bool { return g.p.rules.due(label) > 0 }); ok {
		choices = append(choices, choice{25, op{verb: "take", name: label, n: 1 + g.IntN(4)}})
	}
	if label, ok := g.label(func(label string) bool { return g.p.names[label] != "" }); ok {
		choices = append(choices, choice{4, op{verb: pick(g, "purge", "delete"), name: label}})
	}
	var running []string
	for _, name := range slices.Sorted(maps.Keys(g.p.consumers)) {
		if !g.p.consumers[name].over {
			running = append(running, name)
		}
	}
	if len(running) > 0 {
		choices = append(choices, choice{4, op{verb: "stop", name: pick(g, running...)}})
	}
	consume := op{verb: "consume", name: fmt.Sprint("c", len(g.p.consumers)+1), source: g.odd(g.source()), by: by}
	consume.source.Prefetch = 1 + g.IntN(3)
	choices = append(choices, choice{max(4, 20-8*len(running)), consume}, choice{3, op{verb: "declare", source: g.odd(g.source())}})
	if s := g.source(); !s.Private() {
		choices = append(choices, choice{6, op{verb: "get", source: g.odd(s), by: by}})
		if s.Kind != adapters.Queue {
			choices = append(choices, choice{1, op{verb: "unbind", source: s}})
		}
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	at := g.IntN(total)
	for _, c := range choices {
		if at -= c.weight; at < 0 && c.op.verb != "publish" {
			return c.op
		} else if at < 0 {
			break
		}
	}
	return g.publish(by)
}

// label returns the label of a queue that is as it should be.
func (g *generator) label(is func(string) bool) (string, bool) {
	var labels []string
	for _, label := range slices.Sorted(maps.Keys(g.p.rules.counts)) {
		if is(label) {
			labels = append(labels, label)
		}
	}
	if labels == nil {
		return "", false
	}
	return pick(g, labels...), true
}

func (g *generator) publish(by string) op {
	o := op{verb: "publish", by: by}
	s := g.source()
	p := &o.pub
	p.To = s.Endpoint
	switch s.Kind {
	case adapters.Direct:
		p.Key = pick(g, exact...)
	case adapters.Topic:
		p.Key = pick(g, keys...)
	case adapters.Queue:
		if g.often(20) {
			p.Key = pick(g, keys...)
		}
	case adapters.Fanout:
	case adapters.Reply:
		if p.To.Name = g.answerable(); p.To.Name == "" {
			p.To = adapters.Endpoint{Kind: adapters.Queue, Name: "q1"}
		}
	}
	for range pick(g, 1, 1, 2, 3) {
		g.messages++
		o.ids = append(o.ids, fmt.Sprint("m", g.messages))
	}
	p.Mandatory = g.often(30)
	p.Transient = g.often(20)
	if g.often(25) || s.Queue.MaxPriority > 0 {
		p.Priority = pick[uint8](g, 0, 1, 2, 3, 4, 5, 6, 9, 31, 40)
	}
	switch {
	case g.often(8):
		p.TTL = pick(g, short, time.Hour)
		p.Lasting = g.often(30)
	case g.often(3) && p.To.Kind != adapters.Reply:
		p.Delay, p.Mandatory = 100*time.Millisecond, false
		if g.often(50) {
			p.TTL = short
		}
	}
	if g.often(8) {
		p.Attempt = 2 + g.IntN(3)
		p.CorrelationID, p.ContentType = pick(g, "", "é", "c 1"), pick(g, "", "text/plain")
	}
	if g.often(8) {
		o.meta = map[string]string{pick(g, "k", "x-death", "CC", "motif-key", "ключ", "a b"): pick(g, "", "v", "ü")}
	}
	return o
}

// answerable returns a consumer with an address for answers, or "".
func (g *generator) answerable() string {
	for _, name := range slices.Sorted(maps.Keys(g.p.consumers)) {
		if g.p.consumers[name].source.Kind == adapters.Reply && g.often(60) {
			return name
		}
	}
	return ""
}
