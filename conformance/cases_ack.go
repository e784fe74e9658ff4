package conformance

import (
	"context"
	"fmt"
	"slices"

	"github.com/motifmq/motif/adapters"
)

var ackCases = []Case{
	{
		ID:   "ack/settled-is-gone",
		Rule: "A message that was acknowledged is not delivered again, also when its client is gone.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			ids := numbered("m", 5)
			t.publish(d, to(s), ids...)
			t.sameSet(t.take(sub, len(ids)), ids, "what was received")
			t.must(d.Close(t.soon()), "closing")
			other := t.connect()
			sub = t.subscribe(other, s)
			t.publish(other, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what is left")
		},
	},
	{
		ID:    "ack/out-of-order",
		Rule:  "Messages are settled in any order, and each settling is about its own message only.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(6)
			t.publish(d, to(s), numbered("m", 6)...)
			held := t.hold(sub, 6)
			settled := make(chan struct{}, 3)
			for _, i := range []int{4, 1, 3} {
				t.spawn(func() {
					t.settle(held[i], adapters.Ack)
					settled <- struct{}{}
				})
			}
			for range 3 {
				wait(t, settled, "the messages are settled")
			}
			t.must(d.Close(t.soon()), "closing")
			t.sameSet(t.take(t.subscribe(t.connect(), s), 3), []string{"m-1", "m-3", "m-6"}, "what was not acknowledged")
		},
	},
	{
		ID:   "ack/twice",
		Rule: "Settling a message again does nothing and is no error, whatever the outcome; the first one counts.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			for _, id := range []string{"a", "b", "c"} {
				t.publish(d, to(s), id)
				got := t.receive(sub)
				same(t, []string{got.Message.UUID}, []string{id}, "what comes next")
				t.settle(got, adapters.Ack)
				for _, o := range []adapters.Outcome{adapters.Ack, adapters.Requeue, adapters.Reject} {
					if err := got.Settle(t.soon(), o); err != nil {
						t.errorf("settling again, by %v: %v", o, err)
					}
				}
			}
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes last")
		},
	},
	{
		ID:    "ack/requeue",
		Rule:  "A message that is requeued comes again as it was, and says that it was delivered before.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			want := text("m")[0]
			want.Metadata.Set("name", "value")
			p := to(s)
			p.Attempt = 3
			t.must(d.Publish(t.soon(), p, want), "publishing")
			for range 3 {
				t.settle(t.receive(sub), adapters.Requeue)
			}
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			t.sameMessage(got.Message, want, "")
			if !got.Redelivered {
				t.errorf("a message that was requeued is not marked redelivered")
			}
			if got.Attempt != p.Attempt {
				t.errorf("the message was published as attempt %d and comes as attempt %d", p.Attempt, got.Attempt)
			}
		},
	},
	{
		ID:    "ack/requeue-in-place",
		Rule:  "A message that is requeued goes back to its place, before those that came after it.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			t.publish(d, to(s), numbered("m", 6)...)
			held := t.hold(sub, 3)
			t.settle(held[1], adapters.Requeue)
			again := t.hold(sub, 1)
			same(t, ids(again), []string{"m-2"}, "what comes after the second of three was requeued")
			for _, d := range []adapters.Delivery{held[0], held[2], again[0]} {
				t.settle(d, adapters.Ack)
			}
			same(t, t.take(sub, 3), []string{"m-4", "m-5", "m-6"}, "the rest")
		},
	},
	{
		ID:    "ack/requeue-in-order",
		Rule:  "Messages that are requeued in the order in which they came keep it.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			t.publish(d, to(s), numbered("m", 4)...)
			held := t.hold(sub, 3)
			t.must(sub.Stop(), "Stop") // or they would be delivered again one by one
			for _, d := range held {
				t.settle(d, adapters.Requeue)
			}
			same(t, t.take(t.subscribe(d, queue(s.Name, 1)), 4), []string{"m-1", "m-2", "m-3", "m-4"}, "what comes of three that were requeued, and one")
		},
	},
	{
		ID:   "ack/reject",
		Rule: "A message that is rejected where there are no dead letters is gone.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			t.publish(d, to(s), "a", "b", "marker")
			t.settle(t.receive(sub), adapters.Reject)
			t.settle(t.receive(sub), adapters.Reject)
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
			t.must(d.Close(t.soon()), "closing")
			other := t.connect()
			sub = t.subscribe(other, s)
			t.publish(other, to(s), "another")
			same(t, t.take(sub, 1), []string{"another"}, "what is left")
		},
	},
	{
		ID:    "ack/reject-to-dead-letters",
		Rule:  "A message that is rejected goes to the dead-letter queue as it was, with its key, and says there that it died; once it is sent again it does not.",
		Needs: adapters.CanDeadLetter,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			s.Queue.DeadLetter = t.name("dead")
			sub := t.subscribe(d, s)
			want := text("m")[0]
			want.Metadata.Set("name", "value")
			p := to(s)
			p.Key, p.ContentType, p.Attempt = "a.key", "text/plain", 2
			t.must(d.Publish(t.soon(), p, want), "publishing")
			t.settle(t.receive(sub), adapters.Reject)
			letters := t.subscribe(d, queue(s.Queue.DeadLetter, 1))
			got := t.receive(letters)
			t.settle(got, adapters.Ack)
			again := to(queue(s.Queue.DeadLetter, 1))
			again.Key, again.Properties = got.Key, got.Properties
			t.must(d.Publish(t.soon(), again, got.Message), "publishing the dead letter again")
			second := t.receive(letters)
			t.settle(second, adapters.Ack)
			same(t, []bool{got.Died, second.Died}, []bool{true, false}, "whether the dead letter says that it died, and sent again")
			for name := range got.Message.Metadata { // a dead letter may tell what it died of
				if name != "name" {
					delete(got.Message.Metadata, name)
				}
			}
			t.sameMessage(got.Message, want, "the dead letter")
			same(t, []string{got.Key, got.ContentType, fmt.Sprint(got.Attempt)}, []string{p.Key, p.ContentType, fmt.Sprint(p.Attempt)}, "key, content type and attempt of the dead letter")
		},
	},
	{
		ID:    "ack/stale",
		Rule:  "What was delivered before the session was lost is not settled any more: that is ErrStaleDelivery, and touches nothing that was delivered since.",
		Needs: adapters.CanRequeue,
		Hooks: WithCut,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			want := numbered("m", 3)
			t.publish(d, to(s), want...)
			held := t.hold(sub, 3)
			t.must(t.h.Cut(t.soon()), "cutting the sessions")
			for _, old := range held {
				wait(t, old.Message.Context().Done(), "the message's context ends")
			}
			again := t.hold(sub, 3)
			t.sameSet(ids(again), want, "what comes again")
			for i, o := range []adapters.Outcome{adapters.Ack, adapters.Reject, adapters.Requeue} {
				t.is(held[i].Settle(t.soon(), o), adapters.ErrStaleDelivery, fmt.Sprintf("settling late, by %v", o))
				t.is(held[i].Settle(t.soon(), adapters.Ack), adapters.ErrStaleDelivery, "settling late once more")
			}
			t.must(d.Close(t.soon()), "closing")
			t.sameSet(t.take(t.subscribe(t.connect(), s), 3), want, "what nobody acknowledged")
		},
	},
	{
		ID:    "ack/given-back",
		Rule:  "What a client holds when it is closed comes to another one, in order and marked redelivered; what it had acknowledged does not.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(5)
			t.publish(d, to(s), numbered("m", 8)...)
			held := t.hold(sub, 5)
			t.settle(held[1], adapters.Ack)
			t.settle(held[3], adapters.Ack)
			t.must(d.Close(t.soon()), "closing")
			t.givenBack(t.subscribe(t.connect(), s), []string{"m-1", "m-3", "m-5"}, []string{"m-6", "m-7", "m-8"})
		},
	},
	{
		ID:    "ack/lost-in-hand",
		Rule:  "What a client holds when its session is lost is delivered again, in order and marked redelivered.",
		Needs: adapters.CanRequeue,
		Hooks: WithCut,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			t.publish(d, to(s), numbered("m", 6)...)
			held := t.hold(sub, 3)
			t.must(t.h.Cut(t.soon()), "cutting the sessions")
			for _, old := range held {
				ctx := old.Message.Context()
				wait(t, ctx.Done(), "the message's context ends")
				t.is(context.Cause(ctx), adapters.ErrSessionLost, "the cause with which a message's context ends")
			}
			t.givenBack(sub, []string{"m-1", "m-2", "m-3"}, []string{"m-4", "m-5", "m-6"})
		},
	},
	{
		ID:   "ack/first-delivery",
		Rule: "A message that is delivered for the first time is not marked redelivered.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			t.publish(d, to(s), numbered("m", 10)...)
			for range 10 {
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				if got.Redelivered {
					t.errorf("%q is marked redelivered", got.Message.UUID)
				}
			}
		},
	},
	{
		ID:    "ack/after-stop",
		Rule:  "What is in hand when its subscription is stopped can still be settled, and is nobody else's until then.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			t.publish(d, to(s), "a", "b", "c")
			held := t.hold(sub, 3)
			t.must(sub.Stop(), "stopping")
			other := t.subscribe(t.connect(), s)
			t.publish(d, to(s), "marker")
			same(t, t.take(other, 1), []string{"marker"}, "what another subscription gets meanwhile")
			if err := held[0].Message.Context().Err(); err != nil {
				t.errorf("the context of a message in hand ended with Stop: %v", context.Cause(held[0].Message.Context()))
			}
			t.settle(held[0], adapters.Ack)
			t.settle(held[1], adapters.Requeue)
			same(t, t.take(other, 1), []string{"b"}, "what comes of what was requeued after Stop")
			t.settle(held[2], adapters.Ack)
		},
	},
	{
		ID:   "ack/after-close",
		Rule: "When the driver is closed the contexts of messages end with the cause ErrClosed, and settling them is ErrClosed.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
			t.publish(d, to(s), "a")
			held := t.hold(sub, 1)
			t.settle(held[0], adapters.Ack)
			t.publish(d, to(s), "b")
			held = append(held, t.hold(sub, 1)...)
			t.must(d.Close(t.soon()), "closing")
			ctx := held[1].Message.Context()
			wait(t, ctx.Done(), "the message's context ends")
			t.is(context.Cause(ctx), adapters.ErrClosed, "the cause with which a message's context ends")
			for _, old := range held {
				t.is(old.Settle(t.soon(), adapters.Ack), adapters.ErrClosed, "settling after Close")
			}
		},
	},
	{
		ID:   "ack/unknown-outcome",
		Rule: "To settle by an outcome that there is not is ErrInvalid, and the message stays in hand.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(2)
			t.publish(d, to(s), "a")
			got := t.receive(sub)
			for _, o := range []adapters.Outcome{adapters.Reject + 1, 255} {
				t.is(got.Settle(t.soon(), o), adapters.ErrInvalid, "settling by "+o.String())
			}
			t.settle(got, adapters.Ack)
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
		},
	},
}

// givenBack checks that a subscription gets what was in hand, in order and
// marked redelivered, and what was not in its order. How the two are mixed depends on when
// the broker noticed that the first had gone.
func (t *trial) givenBack(sub adapters.Subscription, inHand, others []string) {
	var again, rest []string
	for range len(inHand) + len(others) {
		got := t.receive(sub)
		t.settle(got, adapters.Ack)
		if id := got.Message.UUID; slices.Contains(inHand, id) {
			again = append(again, id)
			if !got.Redelivered {
				t.errorf("%q was in hand before and is not marked redelivered", id)
			}
		} else {
			rest = append(rest, id)
		}
	}
	same(t, again, inHand, "what was in hand, in the order in which it comes again")
	same(t, rest, others, "the rest")
}
