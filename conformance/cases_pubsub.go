package conformance

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/motifmq/motif/adapters"
)

var pubsubCases = []Case{
	{
		ID:    "pubsub/private-copies",
		Rule:  "Every private subscription to a fanout exchange gets a copy of what is published after it was made.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			first := t.subscribe(d, s)
			t.publish(d, to(s), "a")
			second := t.subscribe(t.connect(), s)
			t.publish(d, to(s), "b", "c")
			same(t, t.take(first, 3), []string{"a", "b", "c"}, "what the first subscription got")
			same(t, t.take(second, 2), []string{"b", "c"}, "what the second one got")
		},
	},
	{
		ID:    "pubsub/bound-on-return",
		Rule:  "When Subscribe has returned the subscription is bound: what any client publishes from then on reaches it.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, publisher, s := t.connect(), t.connect(), private(adapters.Fanout, t.name("news"))
			for _, id := range numbered("m", 10) {
				sub := t.subscribe(d, s)
				t.publish(publisher, to(s), id)
				same(t, t.take(sub, 1), []string{id}, "the first message of a new subscription")
				t.must(sub.Stop(), "stopping")
			}
		},
	},
	{
		ID:    "pubsub/private-gone",
		Rule:  "A private subscription's copies are gone with it: nobody who subscribes later gets them.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			stopped := t.subscribe(d, s)
			t.publish(d, to(s), "a", "b")
			same(t, t.take(stopped, 1), []string{"a"}, "what the first subscription got")
			t.must(stopped.Stop(), "stopping")
			t.publish(d, to(s), "c")
			later := t.subscribe(d, s)
			t.publish(d, to(s), "d")
			same(t, t.take(later, 1), []string{"d"}, "what the later subscription got first")
		},
	},
	{
		ID:    "pubsub/private-leaves",
		Rule:  "When a private subscriber leaves, stopped or with its client, no publisher notices, and groups get every message, twice only if it says so.",
		Needs: adapters.CanFanout | adapters.CanGroup | adapters.CanReturn,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			s, keep := private(adapters.Fanout, name), group(adapters.Fanout, name, "keep")
			t.declare(d, keep)
			var ids []string
			publish := func(id string, more ...string) {
				p := to(s)
				p.Mandatory = len(ids)%2 == 0
				ids = append(append(ids, id), more...)
				t.must(d.Publish(t.soon(), p, text(append([]string{id}, more...)...)...), "publishing when a subscriber has just left")
			}
			for i, id := range numbered("m", 10) {
				client := t.connect()
				sub := t.subscribe(client, s)
				publish("before-" + id)
				if i%2 == 0 {
					t.must(sub.Stop(), "stopping")
				} else {
					t.must(client.Close(t.soon()), "closing")
				}
				publish("alone-" + id)
				publish("one-"+id, "two-"+id)
			}
			sub := t.subscribe(d, keep)
			var got []string
			for len(got) < len(ids) {
				m := t.receive(sub)
				t.settle(m, adapters.Ack)
				if !m.Redelivered || !slices.Contains(got, m.Message.UUID) {
					got = append(got, m.Message.UUID)
				}
			}
			same(t, got, ids, "what the group got, but for what came again")
		},
	},
	{
		ID:    "pubsub/private-order",
		Rule:  "A private subscription gets the messages of a publisher in the order in which they were published, in batches or alone.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			sub := t.subscribe(t.connect(), s)
			ids := numbered("m", 40)
			for i := 0; i < len(ids); i += 4 {
				t.publish(d, to(s), ids[i:i+3]...)
				t.publish(d, to(s), ids[i+3])
			}
			same(t, t.take(sub, len(ids)), ids, "what the subscription got")
		},
	},
	{
		ID:    "pubsub/nobody-there",
		Rule:  "A message that is published while nobody subscribes is no error: it is gone.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			t.publish(d, to(s), "a") // and the exchange is there after it
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "b")
			same(t, t.take(sub, 1), []string{"b"}, "what a subscription made later got first")
		},
	},
	{
		ID:    "pubsub/copies-apart",
		Rule:  "What a subscriber does to its copy of a message, or writes into it, changes nothing for the others.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			s := private(adapters.Fanout, name)
			rude := t.subscribe(d, s)
			others := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, group(adapters.Fanout, name, "group"))}
			msg := text("a")[0]
			msg.Metadata["colour"] = "green"
			t.must(d.Publish(t.soon(), to(s), msg), "publishing")
			got := t.receive(rude)
			clear(got.Message.Payload)
			got.Message.Metadata["colour"] = "red"
			t.settle(got, adapters.Reject)
			for _, sub := range others {
				got := t.receive(sub)
				same(t, []string{string(got.Message.Payload), got.Message.Metadata["colour"]}, []string{"payload of a", "green"}, "another's payload and header")
				t.settle(got, adapters.Ack)
			}
		},
	},
	{
		ID:    "pubsub/group-copies",
		Rule:  "Each group gets one copy of every message, however many members it has.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			merchant, courier := group(adapters.Fanout, name, "merchant"), group(adapters.Fanout, name, "courier")
			first, second := t.subscribe(d, merchant), t.subscribe(t.connect(), merchant)
			alone := t.subscribe(d, courier)
			ids := numbered("m", 6)
			t.publish(d, to(merchant), ids...)
			same(t, t.take(alone, len(ids)), ids, "what the group of one got")
			t.sameSet(t.takeOf(len(ids), first, second), ids, "what the group of two got")
			t.publish(d, to(merchant), "last")
			same(t, t.takeOf(1, first, second), []string{"last"}, "what the group of two got next")
			t.silent(first, "the group had its copies")
			t.silent(second, "the group had its copies")
			same(t, t.take(alone, 1), []string{"last"}, "what the group of one got next")
		},
	},
	{
		ID:    "pubsub/members-compete",
		Rule:  "The members of a group share its messages, so that one that is busy leaves the rest to the others.",
		Needs: adapters.CanFanout | adapters.CanGroup | adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Fanout, t.name("news"), "merchant")
			s.Prefetch = 1
			first, second := t.subscribe(d, s), t.subscribe(t.connect(), s)
			ids := numbered("m", 10)
			t.publish(d, to(s), ids[0])
			held := t.either(first, second)
			idle := first
			if held.from == first {
				idle = second
			}
			t.publish(d, to(s), ids[1:]...)
			same(t, t.take(idle, len(ids)-1), ids[1:], "what the idle member got")
			t.settle(held.Delivery, adapters.Ack)
		},
	},
	{
		ID:    "pubsub/group-keeps",
		Rule:  "A group gets its copies also while none of its members is there, and keeps them until one comes.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Fanout, t.name("news"), "merchant")
			member := t.connect()
			sub := t.subscribe(member, s)
			t.publish(d, to(s), "a", "b")
			same(t, t.take(sub, 1), []string{"a"}, "what the first member got")
			t.must(member.Close(t.soon()), "closing the member's client")
			t.publish(d, to(s), "c")
			same(t, t.take(t.subscribe(d, s), 2), []string{"b", "c"}, "what the next member got")
		},
	},
	{
		ID:    "pubsub/group-declared",
		Rule:  "A group that is declared before its first member comes keeps what is published from then on.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Fanout, t.name("news"), "merchant")
			t.publish(d, to(s), "before")
			t.declare(d, s)
			t.publish(d, to(s), "a", "b")
			same(t, t.take(t.subscribe(t.connect(), s), 2), []string{"a", "b"}, "what its first member got")
		},
	},
	{
		ID:    "pubsub/unbind",
		Rule:  "A group that is unbound gets nothing more, and keeps what it has; other groups go on, and so does it once it is bound again.",
		Needs: adapters.CanFanout | adapters.CanGroup | adapters.CanUnbind,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			merchant, courier := group(adapters.Fanout, name, "merchant"), group(adapters.Fanout, name, "courier")
			t.declare(d, merchant)
			t.declare(d, courier)
			t.publish(d, to(merchant), "a")
			t.must(d.Unbind(t.soon(), merchant), "unbinding")
			t.publish(d, to(merchant), "b")
			t.declare(d, merchant)
			t.publish(d, to(merchant), "c")
			same(t, t.take(t.subscribe(d, merchant), 2), []string{"a", "c"}, "what the group got")
			same(t, t.take(t.subscribe(d, courier), 3), []string{"a", "b", "c"}, "what the other group got")
		},
	},
	{
		ID:    "pubsub/address",
		Rule:  "What is published to the address of a group's subscription, as to a queue, reaches that group alone.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			merchant, courier := group(adapters.Fanout, name, "merchant"), group(adapters.Fanout, name, "courier")
			sub, other := t.subscribe(d, merchant), t.subscribe(d, courier)
			same(t, []string{sub.Address()}, []string{merchant.QueueName()}, "the address of a group")
			t.publish(d, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: sub.Address()}}, "for one")
			t.publish(d, to(merchant), "for all")
			same(t, t.take(sub, 2), []string{"for one", "for all"}, "what the group got")
			same(t, t.take(other, 1), []string{"for all"}, "what the other group got")
		},
	},
	{
		ID:    "pubsub/names-apart",
		Rule:  "Exchanges and groups are told apart by their whole names, byte by byte.",
		Needs: adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			d, name := t.connect(), t.name("news")
			places := []adapters.Source{
				group(adapters.Fanout, name, "g"), group(adapters.Fanout, name, "G"),
				group(adapters.Fanout, name+"é", "g"), group(adapters.Fanout, name+"e\u0301", "g"),
			}
			for _, s := range places {
				t.declare(d, s)
			}
			for i, s := range places[1:] { // the first two share their exchange
				t.publish(d, to(s), fmt.Sprint("m-", i))
			}
			for i, s := range places {
				same(t, t.take(t.subscribe(d, s), 1), []string{fmt.Sprint("m-", max(0, i-1))}, "what group "+s.QueueName()+" got first")
			}
		},
	},
}

// takeOf receives and acknowledges the next n messages of any of some
// subscriptions, and returns their ids in no certain order.
func (t *trial) takeOf(n int, subs ...adapters.Subscription) (ids []string) {
	ctx, cancel := context.WithCancel(t.soon())
	var receiving sync.WaitGroup
	got := make(chan string)
	for _, sub := range subs {
		receiving.Go(func() {
			for {
				d, err := sub.Receive(ctx)
				if err != nil {
					return
				}
				t.settle(d, adapters.Ack)
				select {
				case got <- d.Message.UUID:
				case <-ctx.Done():
					t.errorf("%q came, which is more than was published", d.Message.UUID)
				}
			}
		})
	}
	for range n {
		select {
		case id := <-got:
			ids = append(ids, id)
		case <-ctx.Done():
		}
	}
	cancel()
	receiving.Wait()
	return ids
}
