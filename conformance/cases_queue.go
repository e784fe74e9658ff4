package conformance

import (
	"slices"

	"github.com/motifmq/motif/adapters"
)

var queueCases = []Case{
	{
		ID:   "queue/one-of-many",
		Rule: "Each message of a queue goes to exactly one of its consumers.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 5)
			subs := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, s), t.subscribe(t.connect(), s)}
			want := numbered("m", 60)
			t.publish(d, to(s), want...)
			t.sameSet(t.takeOf(len(want), subs...), want, "what the consumers received")
			for _, sub := range subs {
				t.silent(sub, "all messages were received")
			}
		},
	},
	{
		ID:    "queue/fair-dispatch",
		Rule:  "With prefetch 1 the next message goes to a consumer that is idle, never to one that is busy.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			slow, fast := t.subscribe(d, s), t.subscribe(d, s)
			ids := numbered("m", 20)
			t.publish(d, to(s), ids[0])
			held := t.either(slow, fast)
			busy, idle := slow, fast
			if held.from == fast {
				busy, idle = fast, slow
			}
			t.publish(d, to(s), ids[1:]...)
			same(t, t.take(idle, len(ids)-1), ids[1:], "what the idle consumer received")
			t.silent(busy, "its consumer holds as many messages as its prefetch allows")
			t.settle(held.Delivery, adapters.Ack)
		},
	},
	{
		ID:    "queue/prefetch-holds",
		Rule:  "A subscription never holds more unsettled messages than its prefetch.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 3)
			sub := t.subscribe(d, s)
			ids := numbered("m", 10)
			t.publish(d, to(s), ids...)
			held := t.hold(sub, 3)
			t.silent(sub, "three messages are in hand, and the prefetch is 3")
			t.settle(held[1], adapters.Ack)
			held = append(slices.Delete(held, 1, 2), t.hold(sub, 1)...)
			t.silent(sub, "three messages are in hand again")
			for _, d := range held {
				t.settle(d, adapters.Ack)
			}
			same(t, t.take(sub, 6), ids[4:], "the rest")
		},
	},
}
