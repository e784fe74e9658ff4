package conformance

import (
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

var durableCases = []Case{
	{
		ID:    "durable/messages",
		Rule:  "A queue and the messages in it survive a restart of the broker, those that were in hand as well.",
		Needs: adapters.CanPersist,
		Hooks: WithRestart,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			want := numbered("m", 5)
			t.publish(d, to(s), want...)
			transient := to(s)
			transient.Transient = true
			t.publish(d, transient, "transient")
			t.hold(sub, 1)
			t.restart()
			t.must(d.Close(t.soon()), "closing the client from before the restart")
			sub = t.subscribe(t.connect(), s)
			var got []string
			for len(got) < len(want) {
				// What is transient may be lost, and may not.
				if id := t.take(sub, 1)[0]; id != "transient" {
					got = append(got, id)
				}
			}
			t.sameSet(got, want, "what another client found after the restart")
		},
	},
	{
		ID:    "durable/clients-go-on",
		Rule:  "After a restart of the broker clients go on by themselves: subscriptions deliver, and publishing works again.",
		Needs: adapters.CanPersist,
		Hooks: WithRestart,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			publisher := t.connect()
			sub := t.subscribe(d, s)
			t.publish(publisher, to(s), "before-1", "before-2")
			held := t.receive(sub)
			t.restart()
			wait(t, held.Message.Context().Done(), "the context of the message in hand ends")
			t.is(held.Settle(t.soon(), adapters.Ack), adapters.ErrStaleDelivery, "settling what was in hand before the restart")
			after := t.publishAgain(publisher, to(s), "after")
			var got []string
			for !slices.Contains(got, after) {
				got = append(got, t.take(sub, 1)...)
			}
			for _, id := range []string{"before-1", "before-2"} {
				if !slices.Contains(got, id) {
					t.errorf("%q is not among what was received after the restart: %q", id, got)
				}
			}
			t.declare(publisher, s)
		},
	},
	{
		ID:    "durable/groups",
		Rule:  "A group's queue, what is in it, and its bindings survive a restart of the broker.",
		Needs: adapters.CanPersist | adapters.CanGroup | adapters.CanTopic,
		Hooks: WithRestart,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Topic, t.name("news"), "group", "usa.#", "*.weather")
			t.declare(d, s)
			p := to(s)
			p.Key = "usa.weather"
			t.publish(d, p, "before")
			t.must(d.Close(t.soon()), "closing")
			t.restart()
			d = t.connect()
			want := []string{"before"}
			for _, key := range []string{"asia.weather", "usa.sport"} {
				p.Key = key
				want = append(want, t.publishAgain(d, p, key))
			}
			p.Key = "asia.sport"
			t.publishAgain(d, p, p.Key)
			p.Key = "usa"
			want = append(want, t.publishAgain(d, p, p.Key))
			same(t, t.take(t.subscribe(d, s), len(want)), want, "what the group got")
		},
	},
	{
		ID:    "durable/delayed",
		Rule:  "A message that waits for its time survives a restart of the broker, and still comes not before.",
		Needs: adapters.CanPersist | adapters.CanDelay,
		Hooks: WithRestart,
		run: func(t *trial) {
			d, s := t.declared(1)
			p := to(s)
			p.Delay = long
			start := time.Now()
			t.publish(d, p, "delayed")
			t.restart()
			same(t, t.take(t.subscribe(t.connect(), s), 1), []string{"delayed"}, "what came after the restart")
			if waited := time.Since(start); waited < p.Delay {
				t.errorf("a message with a delay of %v came after %v", p.Delay, waited)
			}
		},
	},
	{
		ID:    "durable/dead-letters",
		Rule:  "Dead letters survive a restart of the broker.",
		Needs: adapters.CanPersist | adapters.CanDeadLetter,
		Hooks: WithRestart,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 2)
			s.Queue.DeadLetter = t.name("dead")
			dead := queue(s.Queue.DeadLetter, 2)
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "a", "b")
			for _, d := range t.hold(sub, 2) {
				t.settle(d, adapters.Reject)
			}
			buried := t.connect()
			t.hold(t.subscribe(buried, dead), 2) // both are there
			t.restart()
			t.must(buried.Close(t.soon()), "closing the client from before the restart")
			t.sameSet(t.take(t.subscribe(t.connect(), dead), 2), []string{"a", "b"}, "the dead letters after the restart")
		},
	},
}
