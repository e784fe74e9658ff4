package model

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

// A world is a broker, what an operator can do to it, and two clients.
type world interface {
	// client returns a or b, connected.
	client(name string) (adapters.Driver, error)

	// declare and unbind are by a client that comes and goes: one that stays
	// would declare again after each cut.
	declare(ctx context.Context, s adapters.Source) error
	unbind(ctx context.Context, s adapters.Source) error

	purge(ctx context.Context, queue string) (int, error)
	deleteQueue(ctx context.Context, queue string) error
	cut(ctx context.Context, client string) error // returns when the client is connected again
	restart(ctx context.Context) error
	pass(d time.Duration) // lets so much time go by, and some more

	// counts looks at the queues that there are, by their labels. If want is not
	// nil it waits until they are so, as long as ctx allows.
	counts(ctx context.Context, label func() map[string]string, want map[string]counts) (map[string]counts, error)
}

// counts is what a queue has.
type counts struct {
	Ready, Unacked, Consumers int
}

// patience is how long to wait for what must come, and impatience how long
// where it is likely not to.
const (
	patience   = time.Minute
	impatience = 3 * time.Second
)

// A step is an operation, and what came of it.
type step struct {
	op      op
	skipped string // why it was not done
	result  string
	taken   map[string][]string // what was received, by queue
	named   map[string]bool     // whether it is determined which consumer got it
	ended   map[string]string   // consumers that ended, and why
	counts  map[string]counts
}

func (s step) String() string {
	if s.skipped != "" {
		return fmt.Sprintf("%s\n    skipped: %s", s.op, s.skipped)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n    %s", s.op, s.result)
	for _, label := range slices.Sorted(maps.Keys(s.taken)) {
		for _, line := range s.taken[label] {
			fmt.Fprintf(&b, "\n    from %s: %s", label, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.ended)) {
		fmt.Fprintf(&b, "\n    %s ended: %s", name, s.ended[name])
	}
	for _, label := range slices.Sorted(maps.Keys(s.counts)) {
		c := s.counts[label]
		fmt.Fprintf(&b, "\n    %s: %d ready, %d unacked, %d consumers", label, c.Ready, c.Unacked, c.Consumers)
	}
	return b.String()
}

// player plays a script in a world.
type player struct {
	world    world
	patience time.Duration

	names map[string]string // of the queues that the script names
	specs map[string]adapters.QueueSpec
	ttl   time.Duration // the longest of the short ones of queues

	consumers map[string]*consumer
	hand      map[string][]*held // by queue, in the order of receipt
	rules     *rules             // for the world that goes first
}

type consumer struct {
	name, client string
	source       adapters.Source
	label        string // of its queue
	sub          adapters.Subscription
	over         bool // stopped, or ended
	held         int  // in hand
}

// held is a message in hand.
type held struct {
	id     string
	d      adapters.Delivery
	client string
	from   *consumer // nil: it was got
	stale  bool      // its session, or its queue, is gone
}

func newPlayer(w world, s script) *player {
	p := &player{world: w, patience: patience, names: make(map[string]string), consumers: make(map[string]*consumer), hand: make(map[string][]*held), specs: make(map[string]adapters.QueueSpec)}
	for _, o := range s.ops {
		p.meet(o)
	}
	return p
}

// meet notes which queues an operation is about.
func (p *player) meet(o op) {
	names := []string{o.source.QueueName(), o.source.Queue.DeadLetter}
	if o.pub.To.Kind == adapters.Queue {
		names = append(names, o.pub.To.Name)
	}
	for _, name := range names {
		if name != "" {
			p.names[name] = name
		}
	}
	if ttl := o.source.Queue.MessageTTL; ttl < long {
		p.ttl = max(p.ttl, ttl)
	}
}

// long is a time that does not come to pass in a sequence. A shorter one is
// over when the operation that began it is.
const long = time.Minute

// labels gives the label of each queue that there may be.
func (p *player) labels() map[string]string {
	all := maps.Clone(p.names)
	for _, c := range p.consumers {
		if c.source.Private() && !c.over {
			all[c.sub.Address()] = c.label
		}
	}
	return all
}

// at returns the consumers of a queue, in the order of their names.
func (p *player) at(label string) []*consumer {
	var all []*consumer
	for _, c := range p.consumers {
		if c.label == label && !c.over {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *consumer) int { return cmp.Compare(a.name, b.name) })
	return all
}

// play does an operation with all that comes of it. Without a plan this is the
// world that goes first, and makes the plan for the others: it says what is left out,
// and what is due.
func (p *player) play(ctx context.Context, o op, plan *step) (step, error) {
	s := step{op: o, taken: make(map[string][]string), named: make(map[string]bool), ended: make(map[string]string)}
	if plan != nil {
		return p.follow(ctx, s, plan)
	}
	if s.skipped = p.rules.objection(o); s.skipped != "" {
		return s, nil
	}
	several := make(map[string]bool)
	expected := make(map[string]change)
	for label := range p.rules.counts {
		several[label] = len(p.at(label)) > 1
		expected[label] = p.rules.expect(o, label)
	}
	s.result = p.do(ctx, o)
	p.note(o, s.result)
	var err error
	if s.counts, err = p.world.counts(ctx, p.labels, nil); err != nil {
		return s, err
	}
	p.rules.learn(&s, expected)
	for label := range s.counts {
		n := p.rules.due(label)
		several := several[label] || len(p.at(label)) > 1
		switch {
		case o.verb == "take" && o.name == label && !several:
			n = min(n, o.n)
		case several, o.verb == "requeue" && o.name == label: // seeing is believing that it was given back
		default:
			n = 0
		}
		if n > 0 {
			s.named[label] = several && !p.rules.of(label).uncertain
			s.taken[label] = p.receive(ctx, label, n, s.named[label])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.consumers)) {
		c := p.consumers[name]
		if _, exists := s.counts[c.label]; !exists && !c.over {
			s.ended[name] = p.ending(ctx, c)
		}
	}
	return s, nil
}

// follow plays what the plan says.
func (p *player) follow(ctx context.Context, s step, plan *step) (step, error) {
	if s.skipped = plan.skipped; s.skipped != "" {
		return s, nil
	}
	s.result = p.do(ctx, s.op)
	p.note(s.op, s.result)
	for _, label := range slices.Sorted(maps.Keys(plan.taken)) {
		s.taken[label] = p.receive(ctx, label, len(plan.taken[label]), plan.named[label])
	}
	for name := range plan.ended {
		if c := p.consumers[name]; c != nil && !c.over {
			s.ended[name] = p.ending(ctx, c)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	var err error
	s.counts, err = p.world.counts(ctx, p.labels, plan.counts)
	return s, err
}

// note keeps in mind what a queue was declared with.
func (p *player) note(o op, result string) {
	if label := o.source.QueueName(); label != "" && !o.source.Passive && o.verb != "unbind" && result != "mismatch" {
		p.specs[label] = o.source.Queue
		delete(p.specs, o.source.Queue.DeadLetter) // declared, too, as a plain queue
	}
}

// ending returns why a consumer ended, which it is known to have. It may still
// receive what was under way to it when its queue was deleted.
func (p *player) ending(ctx context.Context, c *consumer) string {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	c.over = true
	for {
		if _, err := c.sub.Receive(ctx); err != nil {
			return outcome(err)
		}
	}
}
