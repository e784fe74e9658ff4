package conformance

import (
	"context"
	"errors"
	"fmt"
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
		Rule:  "A subscription can hold as many unsettled messages as its prefetch, and never holds more.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s, sub := t.subscribed(3)
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
	{
		ID:   "queue/keeps",
		Rule: "A queue keeps what is sent to it until somebody consumes it.",
		run: func(t *trial) {
			d, s := t.declared(10)
			t.publish(d, to(s), "a", "b")
			sub := t.subscribe(d, s)
			t.sameSet(t.take(sub, 2), []string{"a", "b"}, "what was sent before there was a consumer")
			t.must(sub.Stop(), "stopping")
			t.publish(d, to(s), "c")
			t.sameSet(t.take(t.subscribe(t.connect(), s), 1), []string{"c"}, "what was sent while there was no more consumer")
		},
	},
	{
		ID:    "queue/slow-starves-nobody",
		Rule:  "A consumer that is slow keeps what it holds, and no more: all else goes to the others.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			slow := t.subscribe(d, s)
			ids := numbered("m", 21)
			t.publish(d, to(s), ids[0])
			held := t.receive(slow)
			fast := t.subscribe(t.connect(), s)
			t.publish(d, to(s), ids[1:]...)
			same(t, t.take(fast, 20), ids[1:], "what the other consumer received")
			t.settle(held, adapters.Ack)
		},
	},
	{
		ID:    "queue/idle-share",
		Rule:  "No message waits while a consumer has room for it: each gets its share.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 2)
			subs := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, s), t.subscribe(t.connect(), s)}
			want := numbered("m", 6)
			for _, id := range want {
				t.publish(d, to(s), id)
			}
			var held []adapters.Delivery
			for _, sub := range subs {
				held = append(held, t.hold(sub, 2)...)
			}
			t.sameSet(ids(held), want, "what three consumers hold, two messages each")
			for _, d := range held {
				t.settle(d, adapters.Ack)
			}
		},
	},
	{
		ID:    "queue/late-joiner",
		Rule:  "A consumer that joins late gets its share of what waits.",
		Needs: adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			first := t.subscribe(d, s)
			want := numbered("m", 10)
			t.publish(d, to(s), want...)
			held := t.receive(first)
			same(t, t.take(t.subscribe(t.connect(), s), 9), want[1:], "what the second consumer received")
			t.settle(held, adapters.Ack)
		},
	},
	{
		ID:   "queue/publisher-order",
		Rule: "What one goroutine publishes to a queue arrives in that order, however many others publish there.",
		run: func(t *trial) {
			const publishers, calls = 4, 15
			_, s, sub := t.subscribed(20)
			want, done := make([][]string, publishers), make(chan struct{}, publishers)
			for n := range publishers {
				list := numbered(fmt.Sprintf("%d", n), 3*calls)
				want[n] = list
				own := t.connect()
				t.spawn(func() {
					defer func() { done <- struct{}{} }()
					for i := range calls { // one, and two at once
						t.publish(own, to(s), list[3*i])
						t.publish(own, to(s), list[3*i+1:3*i+3]...)
					}
				})
			}
			got := make([][]string, publishers)
			for _, id := range t.take(sub, publishers*3*calls) {
				n := int(id[0] - '0')
				got[n] = append(got[n], id)
			}
			for n := range publishers {
				wait(t, done, "all publishers have their answers")
				same(t, got[n], want[n], fmt.Sprintf("what came from publisher %d", n))
			}
		},
	},
	{
		ID:    "queue/get-in-order",
		Rule:  "Get says how many messages are left, and what it took is back when Requeue returns, in the order of the requeues.",
		Needs: adapters.CanGet | adapters.CanRequeue,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			t.must(d.Declare(t.soon(), s), "Declare")
			t.publish(d, to(s), numbered("m", 4)...)
			for range 2 {
				var held []adapters.Delivery
				for left := 3; left > 0; left-- {
					got := t.get(d, s)
					if held = append(held, got); got.Remaining != left {
						t.errorf("%d messages are said to be left of %d", got.Remaining, left)
					}
				}
				same(t, ids(held), []string{"m-1", "m-2", "m-3"}, "what Get took")
				for _, d := range held {
					t.settle(d, adapters.Requeue)
				}
			}
			same(t, t.take(t.subscribe(d, s), 4), numbered("m", 4), "what is left")
		},
	},
	{
		ID:    "queue/get",
		Rule:  "Get takes the next message, and says ErrEmpty when none is ready; what it took is in hand until it is settled.",
		Needs: adapters.CanGet | adapters.CanRequeue,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			empty := func(when string) {
				if got, err := d.Get(t.soon(), s); err == nil {
					t.errorf("Get took %q %s", got.Message.UUID, when)
				} else {
					t.is(err, adapters.ErrEmpty, "Get "+when)
				}
			}
			empty("from a queue that is new")
			t.publish(d, to(s), "a", "b")
			a, b := t.get(d, s), t.get(d, s)
			same(t, ids([]adapters.Delivery{a, b}), []string{"a", "b"}, "what Get took")
			empty("while all messages are in hand")
			t.settle(b, adapters.Ack)
			t.settle(a, adapters.Requeue)
			t.await("what was requeued is there again", func() bool {
				again, err := d.Get(t.soon(), s)
				if errors.Is(err, adapters.ErrEmpty) {
					return false
				}
				t.must(err, "Get")
				same(t, []string{again.Message.UUID}, []string{"a"}, "what Get took after the requeue")
				t.settle(again, adapters.Ack)
				return true
			})
			empty("after all was acknowledged")
		},
	},
	{
		ID:    "queue/passive",
		Rule:  "To use a queue as it stands is ErrNotFound if there is none, and then there is still none.",
		Needs: adapters.CanPassive,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			passive := s
			passive.Passive = true
			for range 2 {
				t.is(d.Declare(t.soon(), passive), adapters.ErrNotFound, "declaring what is not there")
				_, err := d.Subscribe(t.soon(), passive)
				t.is(err, adapters.ErrNotFound, "subscribing to what is not there")
			}
			t.declare(d, s)
			t.declare(d, passive)
			sub := t.subscribe(d, passive)
			t.publish(d, to(s), "a")
			same(t, t.take(sub, 1), []string{"a"}, "what came from the queue as it stands")
		},
	},
	{
		ID:    "queue/passive-whatever-it-is",
		Rule:  "A queue is used as it stands whatever its properties.",
		Needs: adapters.CanPassive | adapters.CanLimit,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			passive := s
			passive.Passive = true
			s.Queue.MaxLength = 10
			t.declare(d, s)
			other := t.connect()
			t.declare(other, passive)
			sub := t.subscribe(other, passive)
			t.publish(d, to(s), "a")
			same(t, t.take(sub, 1), []string{"a"}, "what came from the queue as it stands")
		},
	},
	{
		ID:   "queue/redeclare",
		Rule: "Declaring a queue again with the same properties changes nothing, and is no error.",
		run: func(t *trial) {
			d, s := t.declared(1)
			t.declare(d, s)
			other := t.connect()
			t.declare(other, s)
			s.Prefetch = 7 // not the queue's
			sub := t.subscribe(other, s)
			t.publish(d, to(s), "a")
			t.declare(d, s)
			t.declare(other, s)
			same(t, t.take(sub, 1), []string{"a"}, "what is in the queue")
		},
	},
	{
		ID:    "queue/mismatch",
		Rule:  "Declaring a queue again with other properties is ErrMismatch, and the queue stays as it is, with its messages and consumers.",
		Needs: adapters.CanLimit,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			s.Queue.MaxLength = 10
			t.declare(d, s)
			t.publish(d, to(s), "a")
			sub := t.subscribe(d, s)
			unlimited, longer := s, s
			unlimited.Queue.MaxLength, longer.Queue.MaxLength = 0, 11
			for _, client := range []adapters.Driver{d, t.connect()} {
				for _, other := range []adapters.Source{unlimited, longer} {
					what := fmt.Sprintf("with a length of %d in place of 10", other.Queue.MaxLength)
					t.is(client.Declare(t.soon(), other), adapters.ErrMismatch, "declaring "+what)
					_, err := client.Subscribe(t.soon(), other)
					t.is(err, adapters.ErrMismatch, "subscribing "+what)
				}
			}
			t.declare(d, s)
			t.publish(d, to(s), "b")
			same(t, t.take(sub, 2), []string{"a", "b"}, "what came from the queue")
		},
	},
	{
		ID:    "queue/single-active",
		Rule:  "Of the consumers of a SingleActive queue one gets the messages, and when it is gone another one: first what the one before held, in order.",
		Needs: adapters.CanSingleActive,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 3)
			s.Queue.SingleActive = true
			ids := numbered("m", 8)
			first := t.subscribe(d, s)
			other := t.connect()
			second, third := t.subscribe(other, s), t.subscribe(other, s)
			t.publish(other, to(s), ids...)
			for _, d := range t.hold(first, 3)[:1] {
				t.settle(d, adapters.Ack)
			}
			t.hold(first, 1)
			t.silent(second, "another consumer is the active one")
			t.silent(third, "another consumer is the active one")
			t.must(d.Close(t.soon()), "closing the driver of the active consumer")
			same(t, t.take(second, 3), ids[1:4], "what the next consumer received first, which the one before held")
			held := t.hold(second, 3)
			t.silent(third, "another consumer is the active one, though its prefetch is full")
			for _, d := range held {
				t.settle(d, adapters.Ack)
			}
			same(t, t.take(second, 1), ids[7:], "the rest")
			t.must(second.Stop(), "stopping the active consumer")
			t.publish(other, to(s), "last")
			same(t, t.take(third, 1), []string{"last"}, "what the last consumer received")
		},
	},
	{
		ID:    "queue/single-active-is-a-property",
		Rule:  "To declare a queue as SingleActive that is not, or the other way round, is ErrMismatch, and single messages cannot be taken from one.",
		Needs: adapters.CanSingleActive,
		run: func(t *trial) {
			d, one, many := t.connect(), queue(t.name("one"), 1), queue(t.name("many"), 1)
			one.Queue.SingleActive = true
			t.declare(d, one)
			t.declare(d, many)
			one.Queue, many.Queue = many.Queue, one.Queue
			t.is(d.Declare(t.soon(), one), adapters.ErrMismatch, "declaring it without SingleActive")
			t.is(d.Declare(t.soon(), many), adapters.ErrMismatch, "declaring it with SingleActive")
			if t.claims.Ability.Has(adapters.CanGet) {
				one.Queue.SingleActive = true
				_, err := d.Get(t.soon(), one)
				t.is(err, adapters.ErrInvalid, "getting a message")
			}
		},
	},
	{
		ID:    "queue/auto-delete",
		Rule:  "An auto-delete queue lives as long as it has a consumer, and is gone with the last one.",
		Needs: adapters.CanAutoDelete | adapters.CanPassive,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			s.Queue.AutoDelete = true
			passive := queue(s.Name, 1)
			passive.Passive = true
			looker := t.connect()
			gone := func() bool { return errors.Is(looker.Declare(t.soon(), passive), adapters.ErrNotFound) }
			first, second := t.subscribe(d, s), t.subscribe(t.connect(), s)
			t.publish(d, to(s), "a", "b", "waits")
			held := []adapters.Delivery{t.receive(first), t.receive(second)}
			t.must(first.Stop(), "stopping the first consumer")
			for _, d := range held {
				t.settle(d, adapters.Ack)
			}
			same(t, t.take(second, 1), []string{"waits"}, "what the second consumer got after the first one was stopped")
			t.must(second.Stop(), "stopping the last consumer")
			t.await("the queue is gone with its last consumer", gone)

			last := t.connect()
			t.subscribe(last, s)
			if gone() {
				t.errorf("the queue that was made again is gone")
			}
			t.must(last.Close(t.soon()), "closing the client of the last consumer")
			t.await("the queue is gone with its last consumer's client", gone)
		},
	},
	{
		ID:   "queue/isolated-from-publisher",
		Rule: "What a publisher does to its message after Publish changes nothing for those who receive it.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			m, want := text("m")[0], text("m")[0]
			m.Metadata.Set("name", "value")
			want.Metadata.Set("name", "value")
			t.must(d.Publish(t.soon(), to(s), m), "publishing")
			clear(m.Payload)
			m.UUID = "another"
			m.Metadata.Set("name", "another")
			m.Metadata.Set("more", "of it")
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			t.sameMessage(got.Message, want, "")
		},
	},
	{
		ID:    "queue/isolated-from-receivers",
		Rule:  "What a receiver does to its message changes nothing for those who receive it after it was requeued.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			m, want := text("m")[0], text("m")[0]
			m.Metadata.Set("name", "value")
			want.Metadata.Set("name", "value")
			t.must(d.Publish(t.soon(), to(s), m), "publishing")
			got := t.receive(sub)
			clear(got.Message.Payload)
			got.Message.Metadata.Set("name", "another")
			got.Message.Metadata.Set("more", "of it")
			t.settle(got, adapters.Requeue)
			got = t.receive(sub)
			t.settle(got, adapters.Ack)
			t.sameMessage(got.Message, want, "")
		},
	},
	{
		ID:    "queue/try-receive",
		Rule:  "TryReceive, of a subscription that has it, leaves out nothing that the queue has given, and does not wait for more.",
		Needs: adapters.CanConfirm,
		run: func(t *trial) {
			d, s, sub := t.subscribed(2)
			tries := sub.(adapters.TryReceiver) // for what the one that is recorded does
			if _, err := tries.TryReceive(t.soon()); errors.Is(err, adapters.ErrUnsupported) {
				return
			}
			all := func() (ids []string) {
				for {
					got, err := tries.TryReceive(t.soon())
					if err != nil {
						t.is(err, adapters.ErrEmpty, "TryReceive of what there is not")
						return ids
					}
					t.settle(got, adapters.Ack)
					ids = append(ids, got.Message.UUID)
				}
			}
			other := t.connect()
			for _, id := range numbered("m", 20) {
				t.publish(other, to(s), id+"a", id+"b")
				same(t, all(), []string{id + "a", id + "b"}, "what was published")
			}
			same(t, all(), nil, "what is left")
			ended, cancel := context.WithCancel(t.ctx)
			cancel()
			_, err := tries.TryReceive(ended)
			t.is(err, context.Canceled, "TryReceive with a ctx that has ended")
			t.must(sub.Stop(), "stopping")
			_, err = tries.TryReceive(t.soon())
			t.is(err, adapters.ErrStopped, "TryReceive after Stop")
			t.must(d.Close(t.soon()), "closing")
		},
	},
	{
		ID:    "queue/stop-and-return",
		Rule:  "StopAndReturn, of a subscription that has it, gives back in order all that is not settled, what is in hand included.",
		Needs: adapters.CanConfirm | adapters.CanRequeue,
		run: func(t *trial) {
			const prefetch = 100
			d, s, sub := t.subscribed(prefetch)
			t.publish(d, to(s), numbered("m", prefetch+20)...)
			var want []string
			var held []adapters.Delivery
			for i := range prefetch {
				got := t.receive(sub)
				if i%10 == 9 || i == 0 {
					t.settle(got, adapters.Ack)
					continue
				}
				held = append(held, got)
				want = append(want, got.Message.UUID)
			}
			err := sub.(adapters.Returner).StopAndReturn() // for what the one that is recorded does
			if errors.Is(err, adapters.ErrUnsupported) {
				return
			}
			t.must(err, "giving all back")
			_, err = sub.Receive(t.soon())
			t.is(err, adapters.ErrStopped, "Receive after StopAndReturn")
			t.is(held[0].Settle(t.soon(), adapters.Ack), adapters.ErrStaleDelivery, "settling what was given back")
			want = append(want, numbered("m", prefetch+20)[prefetch:]...)
			again := t.subscribe(t.connect(), s)
			var ids []string
			for range want {
				got := t.receive(again)
				ids = append(ids, got.Message.UUID)
				t.settle(got, adapters.Ack)
			}
			same(t, ids, want, "what was left")
			t.must(sub.Stop(), "stopping it again")
		},
	},
	{
		ID:    "queue/deleted-under-its-consumer",
		Rule:  "When its queue is deleted a subscription declares it again and goes on; nobody receives a message that was never sent.",
		Hooks: WithDelete,
		Needs: adapters.CanReturn,
		run: func(t *trial) {
			d, s, sub := t.subscribed(2)
			t.publish(d, to(s), "before")
			held := t.receive(sub)
			same(t, []string{held.Message.UUID}, []string{"before"}, "what was received")
			t.purged(s)
			t.must(t.h.Delete(t.soon(), s.Name), "deleting the queue")
			p := to(s)
			p.Mandatory = true
			after := t.publishAgain(t.connect(), p, "after")
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			same(t, []string{got.Message.UUID}, []string{after}, "what comes next")
			if err := held.Settle(t.soon(), adapters.Ack); err != nil && !errors.Is(err, adapters.ErrStaleDelivery) {
				t.errorf("settling what was in hand of the deleted queue: %v", err)
			}
			t.publish(d, to(s), "last")
			same(t, t.take(sub, 1), []string{"last"}, "what comes last")
		},
	},
}
