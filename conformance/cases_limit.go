package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Lengths of time that the rules are about. What must come after a while is
// only held to come not before, for a busy broker may be late.
const (
	brief = 300 * time.Millisecond
	long  = 3 * time.Second
)

var limitCases = []Case{
	{
		ID:    "limit/ttl",
		Rule:  "A message is not delivered after its time to live, and those without one are not affected.",
		Needs: adapters.CanExpire,
		run: func(t *trial) {
			d, s := t.declared(10)
			short, hour := to(s), to(s)
			short.TTL, hour.TTL = brief, time.Hour
			t.publish(d, short, "short-1")
			t.publish(d, hour, "hour")
			t.publish(d, short, "short-2")
			t.publish(d, to(s), "unlimited")
			t.pass(2 * brief)
			sub := t.subscribe(d, s)
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			if got.TTL != hour.TTL {
				t.errorf("the time to live of %q is told as %v, not %v", got.Message.UUID, got.TTL, hour.TTL)
			}
			same(t, append([]string{got.Message.UUID}, t.take(sub, 1)...), []string{"hour", "unlimited"}, "what was delivered")
			t.silent(sub, "what its time to live had left is delivered, and the rest is over")
		},
	},
	{
		ID:    "limit/ttl-of-a-queue",
		Rule:  "A queue's MessageTTL holds for every message in it, and the shorter of the two counts.",
		Needs: adapters.CanExpire,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			s.Queue.MessageTTL = brief
			hours := queue(t.name("hours"), 10)
			hours.Queue.MessageTTL = time.Hour
			t.declare(d, s)
			t.declare(d, hours)
			p := to(s)
			p.TTL = time.Hour
			t.publish(d, p, "hour")
			t.publish(d, to(s), "unlimited")
			p = to(hours)
			p.TTL = brief
			t.publish(d, p, "short")
			t.publish(d, to(hours), "stays")
			t.pass(2 * brief)
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what is in the queue with a short MessageTTL")
			same(t, t.take(t.subscribe(d, hours), 1), []string{"stays"}, "what is in the queue with a long one")
		},
	},
	{
		ID:    "limit/lasting",
		Rule:  "A lasting message does not expire, and its time to live counts again when it is sent on as it was received.",
		Needs: adapters.CanExpire,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			other := queue(t.name("other"), 10)
			t.declare(d, other)
			p := to(other)
			p.TTL, p.Lasting = brief, true
			t.publish(d, p, "m")
			t.pass(2 * brief)
			kept := t.subscribe(d, other)
			got := t.receive(kept)
			t.settle(got, adapters.Ack)
			same(t, []time.Duration{got.TTL}, []time.Duration{brief}, "the time to live that the receiver is told")
			t.must(sub.Stop(), "stopping")
			t.must(d.Publish(t.soon(), adapters.Publication{To: s.Endpoint, Properties: got.Properties}, got.Message), "sending it on")
			t.pass(2 * brief)
			t.publish(d, to(s), "marker")
			same(t, t.take(t.subscribe(d, s), 1), []string{"marker"}, "what is in the queue that it was sent on to")
		},
	},
	{
		ID:    "limit/expired-to-dead-letters",
		Rule:  "A message that expires goes to the dead-letter queue, and does not expire there.",
		Needs: adapters.CanExpire | adapters.CanDeadLetter,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			s.Queue.DeadLetter = t.name("dead")
			t.declare(d, s)
			p := to(s)
			p.TTL = brief
			t.publish(d, p, "a", "b")
			t.pass(4 * brief) // time enough to expire once more
			same(t, t.take(t.subscribe(d, queue(s.Queue.DeadLetter, 10)), 2), []string{"a", "b"}, "the dead letters")
		},
	},
	{
		ID:    "limit/delay",
		Rule:  "A delayed message is not delivered before its time.",
		Needs: adapters.CanDelay,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			want := text("delayed")[0]
			want.Metadata.Set("name", "value")
			p := to(s)
			p.Delay, p.Key, p.Attempt = brief, "a.key", 4
			start := time.Now()
			t.must(d.Publish(t.soon(), p, want), "publishing with a delay")
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			if waited := time.Since(start); waited < p.Delay {
				t.errorf("a message with a delay of %v came after %v", p.Delay, waited)
			}
			t.sameMessage(got.Message, want, "the delayed message")
			if got.Key != p.Key || got.Attempt != p.Attempt {
				t.errorf("the delayed message has key %q and attempt %d, not %q and %d", got.Key, got.Attempt, p.Key, p.Attempt)
			}
		},
	},
	{
		ID:    "limit/cancel",
		Rule:  "A delayed message that is cancelled is not delivered, and no other message is gone; to cancel what does not wait for its time is ErrNotFound.",
		Needs: adapters.CanDelay | adapters.CanCancel,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			another := queue(t.name("another"), 10)
			others := t.subscribe(d, another)
			if _, ok := d.Unwrap().(adapters.Canceller); !ok {
				t.fatalf("%T has no Cancel", d.Unwrap())
			}
			late := func(s adapters.Source) adapters.Publication {
				p := to(s)
				p.Delay = long
				return p
			}
			t.publish(d, late(s), "first", "cancelled", "last")
			t.publish(d, late(another), "cancelled")
			t.publish(d, to(s), "waits")
			held := t.receive(sub)
			cancel := func(id string) error { return d.Cancel(t.soon(), s.Endpoint, id) }
			t.must(cancel("cancelled"), "cancelling a message")
			for _, id := range []string{"cancelled", "waits", "unknown"} {
				t.is(cancel(id), adapters.ErrNotFound, "cancelling "+id)
			}
			t.is(d.Cancel(t.soon(), another.Endpoint, "first"), adapters.ErrNotFound, "cancelling a message to another queue")
			t.settle(held, adapters.Requeue)
			same(t, t.take(sub, 3), []string{"waits", "first", "last"}, "what came")
			same(t, t.take(others, 1), []string{"cancelled"}, "what came to another queue")
			t.silent(sub, "it was cancelled")
			t.is(cancel("first"), adapters.ErrNotFound, "cancelling what was delivered")
		},
	},
	{
		ID:    "limit/unique",
		Rule:  "A message that is unique for a time has others with its id dropped for that time, which are to the same endpoint and unique themselves; one that is refused does not.",
		Needs: adapters.CanUnique | adapters.CanLimit,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			unique := func(s adapters.Source, d time.Duration) adapters.Publication {
				p := to(s)
				p.UniqueFor = d
				return p
			}
			t.publish(d, unique(s, time.Hour), "a", "b", "a")
			t.publish(t.connect(), unique(s, brief), "b", "c")
			t.publish(d, to(s), "a")
			same(t, t.take(sub, 4), []string{"a", "b", "c", "a"}, "what came, with one at the end that was not unique")
			t.pass(brief)
			t.publish(d, unique(s, brief), "b", "c")
			same(t, t.take(sub, 1), []string{"c"}, "what came when the time of one was over")

			another := queue(t.name("another"), 10)
			t.declare(d, another)
			t.publish(d, unique(another, time.Hour), "a")
			same(t, t.take(t.subscribe(d, another), 1), []string{"a"}, "what came to another queue")
			t.is(d.Publish(t.soon(), unique(another, time.Hour), message.NewMessage("", nil)), adapters.ErrInvalid, "publishing without an id")

			full := queue(t.name("full"), 10)
			full.Queue.MaxLength = 1
			t.declare(d, full)
			var refused string
			for i := 0; refused == "" && i < 100; i++ { // a broker may take some more than the limit
				id := fmt.Sprint("m-", i)
				if err := d.Publish(t.soon(), unique(full, time.Hour), text(id)...); err != nil {
					t.is(err, adapters.ErrNacked, "publishing to a full queue")
					refused = id
				}
			}
			emptied := t.subscribe(d, full)
			got := t.receive(emptied)
			for err := adapters.ErrNacked; errors.Is(err, adapters.ErrNacked); {
				t.pass(time.Millisecond)
				err = d.Publish(t.soon(), unique(full, time.Hour), text(refused)...)
			}
			for t.settle(got, adapters.Ack); got.Message.UUID != refused; t.settle(got, adapters.Ack) {
				got = t.receive(emptied)
			}
		},
	},
	{
		ID:    "limit/delays-by-due-time",
		Rule:  "Delayed messages come in the order of their times: none waits behind one that is due later.",
		Needs: adapters.CanDelay,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			for late, inTime := long, false; !inTime; late *= 2 { // until a busy broker takes the others before it
				start := time.Now()
				delays := map[string]time.Duration{"late": late, "soon": brief, "between": 3 * brief}
				for _, id := range []string{"late", "soon", "between"} {
					p := to(s)
					p.Delay = delays[id]
					t.publish(d, p, id)
				}
				inTime = time.Since(start) < late/3
				for _, want := range []string{"soon", "between", "late"} {
					got := t.receive(sub)
					t.settle(got, adapters.Ack)
					waited := time.Since(start)
					if id := got.Message.UUID; inTime && id != want {
						t.errorf("%q came after %v, where %q was due", id, waited, want)
					} else if waited < delays[id] {
						t.errorf("%q came after %v, and its delay is %v", id, waited, delays[id])
					}
				}
			}
		},
	},
	{
		ID:    "limit/delay-to-an-exchange",
		Rule:  "A delayed message is routed when it is due, to whoever is bound then.",
		Needs: adapters.CanDelay | adapters.CanFanout,
		run: func(t *trial) {
			d, s := t.connect(), private(adapters.Fanout, t.name("news"))
			early := t.subscribe(d, s)
			p := to(s)
			p.Delay = long
			t.publish(d, p, "delayed")
			later := t.subscribe(d, s)
			t.publish(d, to(s), "at-once")
			for _, sub := range []adapters.Subscription{early, later} {
				same(t, t.take(sub, 2), []string{"at-once", "delayed"}, "what came")
			}
		},
	},
	{
		ID:    "limit/priority",
		Rule:  "Of the messages that wait the one of the highest priority comes first, and those of the same in their order.",
		Needs: adapters.CanPrioritize,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			s.Queue.MaxPriority = 10
			t.declare(d, s)
			for _, m := range []struct {
				id       string
				priority uint8
			}{{"none-1", 0}, {"five-1", 5}, {"nine", 9}, {"five-2", 5}, {"one", 1}, {"none-2", 0}} {
				p := to(s)
				p.Priority = m.priority
				t.publish(d, p, m.id)
			}
			sub := t.subscribe(d, s)
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			if got.Priority != 9 {
				t.errorf("the priority of %q is told as %d, not 9", got.Message.UUID, got.Priority)
			}
			same(t, append([]string{got.Message.UUID}, t.take(sub, 5)...), []string{"nine", "five-1", "five-2", "one", "none-1", "none-2"}, "the order in which the messages came")
		},
	},
	{
		ID:    "limit/max-priority",
		Rule:  "What is published to a queue with a priority above its MaxPriority counts as that, and a queue without one keeps the order; the receiver is told the priority as it was given.",
		Needs: adapters.CanPrioritize,
		run: func(t *trial) {
			d := t.connect()
			for most, want := range map[uint8][]string{3: {"three", "nine", "one"}, 0: {"one", "three", "nine"}} {
				s := queue(t.name("queue"), 1)
				s.Name += string('a' + rune(most))
				s.Queue.MaxPriority = most
				t.declare(d, s)
				for id, priority := range []uint8{1, 3, 9} {
					p := to(s)
					p.Priority = priority
					t.publish(d, p, []string{"one", "three", "nine"}[id])
				}
				sub := t.subscribe(d, s)
				for _, id := range want {
					got := t.receive(sub)
					t.settle(got, adapters.Ack)
					same(t, []string{got.Message.UUID, fmt.Sprint(got.Priority)}, []string{id, fmt.Sprint(map[string]int{"one": 1, "three": 3, "nine": 9}[id])}, "a message in its order, and its priority")
				}
			}
		},
	},
	{
		ID:    "limit/drop-head",
		Rule:  "A full queue with DropHead drops its oldest message to make room, and its publishers do not notice.",
		Needs: adapters.CanLimit,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			s.Queue.MaxLength, s.Queue.Overflow = 3, adapters.DropHead
			t.declare(d, s)
			t.publish(d, to(s), numbered("m", 4)...)
			t.publish(d, to(s), "m-5")
			same(t, t.take(t.subscribe(d, s), 3), []string{"m-3", "m-4", "m-5"}, "what is left in the queue")
		},
	},
	{
		ID:    "limit/dropped-to-dead-letters",
		Rule:  "What a full queue drops goes to its dead-letter queue.",
		Needs: adapters.CanLimit | adapters.CanDeadLetter,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			s.Queue.MaxLength, s.Queue.Overflow, s.Queue.DeadLetter = 2, adapters.DropHead, t.name("dead")
			t.declare(d, s)
			t.publish(d, to(s), numbered("m", 5)...)
			dead := queue(s.Queue.DeadLetter, 10)
			same(t, t.take(t.subscribe(d, dead), 3), []string{"m-1", "m-2", "m-3"}, "the dead letters")
			same(t, t.take(t.subscribe(d, s), 2), []string{"m-4", "m-5"}, "what is left in the queue")
		},
	},
}
