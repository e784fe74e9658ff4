package model

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

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
	patience   = 15 * time.Second
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

// do does an operation, and returns what came of it as a word or two.
func (p *player) do(ctx context.Context, o op) string {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	switch o.verb {
	case "declare":
		return outcome(p.world.declare(ctx, o.source))
	case "unbind":
		return outcome(p.world.unbind(ctx, o.source))
	case "consume":
		return p.consume(ctx, o)
	case "get":
		return p.get(ctx, o)
	case "publish":
		return p.publish(ctx, o)
	case "ack", "requeue", "reject":
		return p.settle(ctx, o)
	case "stop":
		return p.stop(o.name)
	case "purge":
		n, err := p.world.purge(ctx, o.name)
		return fmt.Sprint(n, " ", outcome(err))
	case "delete":
		p.lose(func(label string, _ *held) bool { return label == o.name })
		return outcome(p.world.deleteQueue(ctx, o.name))
	case "cut":
		p.losing(o.name)
		return outcome(p.world.cut(ctx, o.name))
	case "restart":
		p.losing("a", "b")
		return outcome(p.world.restart(ctx))
	}
	return "ok" // take, which comes after every operation
}

func (p *player) consume(ctx context.Context, o op) string {
	c := &consumer{name: o.name, client: cmp.Or(o.by, "a"), source: o.source, label: cmp.Or(o.source.QueueName(), o.name)}
	d, err := p.world.client(c.client)
	if err == nil {
		c.sub, err = d.Subscribe(ctx, o.source)
	}
	if err == nil {
		p.consumers[c.name] = c
	}
	return outcome(err)
}

func (p *player) get(ctx context.Context, o op) string {
	client := cmp.Or(o.by, "a")
	d, err := p.world.client(client)
	if err != nil {
		return outcome(err)
	}
	got, err := d.(adapters.Getter).Get(ctx, o.source)
	if err != nil {
		return outcome(err)
	}
	label := o.source.QueueName()
	p.hand[label] = append(p.hand[label], &held{id: got.Message.UUID, d: got, client: client})
	return describe(got)
}

func (p *player) publish(ctx context.Context, o op) string {
	d, err := p.world.client(cmp.Or(o.by, "a"))
	if err != nil {
		return outcome(err)
	}
	pub := o.pub
	if pub.To.Kind == adapters.Reply {
		pub.To.Name = p.consumers[pub.To.Name].sub.Address()
	}
	var msgs []*message.Message
	for _, id := range o.ids {
		m := message.NewMessage(id, message.Payload(payload(id)))
		maps.Copy(m.Metadata, o.meta)
		msgs = append(msgs, m)
	}
	wait := pub.Delay + p.ttl
	if pub.TTL < long {
		wait += pub.TTL
	}
	if wait == 0 {
		return outcome(d.Publish(ctx, pub, msgs...))
	}
	var outcomes []string // one after the other: none is to expire before the next one comes, or all are
	for _, m := range msgs {
		outcomes = append(outcomes, outcome(d.Publish(ctx, pub, m)))
		p.world.pass(wait)
	}
	return strings.Join(outcomes, ", ")
}

// settle settles a message in hand, and once more, which must do nothing.
func (p *player) settle(ctx context.Context, o op) string {
	h := p.find(o.name, o.ids[0])
	if h == nil {
		return "not in hand" // in this world only: that is a difference
	}
	p.hand[o.name] = slices.DeleteFunc(p.hand[o.name], func(x *held) bool { return x == h })
	if h.from != nil && !h.stale {
		h.from.held--
	}
	outcomes := map[string]adapters.Outcome{"ack": adapters.Ack, "requeue": adapters.Requeue, "reject": adapters.Reject}
	first := h.d.Settle(ctx, outcomes[o.verb])
	return outcome(first) + ", again " + outcome(h.d.Settle(ctx, adapters.Ack))
}

func (p *player) find(label, id string) *held {
	for _, h := range p.hand[label] {
		if h.id == id {
			return h
		}
	}
	return nil
}

func (p *player) stop(name string) string {
	c := p.consumers[name]
	c.over = true
	if c.source.Private() {
		p.lose(func(label string, _ *held) bool { return label == c.label })
	}
	return outcome(c.sub.Stop())
}

// losing notes that sessions are about to be lost.
func (p *player) losing(clients ...string) {
	p.lose(func(label string, h *held) bool {
		if slices.Contains(clients, h.client) {
			return true
		}
		// A queue that goes with its last consumer takes along what others got
		// from it.
		return p.specs[label].AutoDelete && !slices.ContainsFunc(p.at(label), func(c *consumer) bool { return !slices.Contains(clients, c.client) })
	})
}

func (p *player) lose(lost func(label string, h *held) bool) {
	for label, hand := range p.hand {
		for _, h := range hand {
			if !h.stale && lost(label, h) {
				h.stale = true
				if h.from != nil {
					h.from.held--
				}
			}
		}
	}
}

// receive takes n messages from the consumers of a queue. If there are several,
// which of them got a message is told only if that is determined.
func (p *player) receive(ctx context.Context, label string, n int, named bool) []string {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	var lines []string
	take := func(c *consumer, d adapters.Delivery, err error) {
		if err != nil {
			lines = append(lines, fmt.Sprintf("nothing after %d of %d: %s", len(lines), n, outcome(err)))
			return
		}
		p.hand[label] = append(p.hand[label], &held{id: d.Message.UUID, d: d, client: c.client, from: c})
		c.held++
		line := describe(d)
		if named {
			line += " to " + c.name
		}
		lines = append(lines, line)
	}
	consumers := p.at(label)
	if len(consumers) == 1 {
		for err := error(nil); err == nil && len(lines) < n; {
			var d adapters.Delivery
			d, err = consumers[0].sub.Receive(ctx)
			take(consumers[0], d, err)
		}
		return lines
	}
	type receipt struct {
		c   *consumer
		d   adapters.Delivery
		err error
	}
	receipts := make(chan receipt)
	for _, c := range consumers {
		go func() {
			for err := error(nil); err == nil; {
				var d adapters.Delivery
				d, err = c.sub.Receive(ctx)
				receipts <- receipt{c, d, err}
			}
		}()
	}
	for running := len(consumers); running > 0; {
		r := <-receipts
		if r.err != nil {
			running--
		}
		if r.err == nil || len(lines) < n { // else it was told to come to an end
			take(r.c, r.d, r.err)
		}
		if len(lines) == n {
			cancel()
		}
	}
	slices.Sort(lines)
	return lines
}
