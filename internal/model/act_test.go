package model

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

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
	err = d.Publish(ctx, pub, msgs...)
	wait := pub.Delay + p.ttl
	if pub.TTL < long {
		wait += pub.TTL
	}
	if wait > 0 {
		p.world.pass(wait)
	}
	return outcome(err)
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
