package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// inspections are the methods of an adapters.Inspector, by the ability that each takes.
var inspections = map[adapters.Ability]func(context.Context, adapters.Inspector, string) error{
	adapters.CanInspect: func(ctx context.Context, d adapters.Inspector, queue string) error {
		_, err := d.Inspect(ctx, queue)
		return err
	},
	adapters.CanList: func(ctx context.Context, d adapters.Inspector, _ string) error {
		for _, err := range d.Queues(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	},
	adapters.CanBrowse: func(ctx context.Context, d adapters.Inspector, queue string) error {
		_, err := d.Browse(ctx, queue, 1)
		return err
	},
	adapters.CanListBindings: func(ctx context.Context, d adapters.Inspector, queue string) error {
		_, err := d.Bindings(ctx, queue)
		return err
	},
	adapters.CanPurge: func(ctx context.Context, d adapters.Inspector, queue string) error {
		_, err := d.Purge(ctx, queue)
		return err
	},
	adapters.CanDelete: func(ctx context.Context, d adapters.Inspector, queue string) error {
		return d.Delete(ctx, queue, 0)
	},
	adapters.CanCompare: func(ctx context.Context, d adapters.Inspector, queue string) error {
		_, err := d.Compare(ctx, adapters.Endpoint{Kind: adapters.Queue, Name: queue}, adapters.QueueSpec{})
		return err
	},
}

var inspectCases = []Case{
	{
		ID:    "inspect/depth",
		Rule:  "Inspect reports how many messages wait in a queue, without those that consumers hold, and how many consumers there are.",
		Needs: adapters.CanInspect | adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.declared(2)
			t.inspected(d, s.Name, adapters.QueueInfo{})
			t.publish(d, to(s), numbered("m", 5)...)
			t.inspected(d, s.Name, adapters.QueueInfo{Ready: 5})
			sub := t.subscribe(t.connect(), s)
			held := t.hold(sub, 2)
			t.inspected(d, s.Name, adapters.QueueInfo{Ready: 3, Unacked: 2, Consumers: 1})
			t.settle(held[0], adapters.Ack)
			held = append(held[1:], t.receive(sub))
			t.inspected(d, s.Name, adapters.QueueInfo{Ready: 2, Unacked: 2, Consumers: 1})
			t.must(sub.Stop(), "stopping")
			for _, m := range held {
				t.settle(m, adapters.Ack)
			}
			t.inspected(d, s.Name, adapters.QueueInfo{Ready: 2})
		},
	},
	{
		ID:    "inspect/browse",
		Rule:  "Browse returns copies of what waits, as it was published and in its order, at most as many as asked for, and how many more there are.",
		Needs: adapters.CanBrowse,
		run: func(t *trial) {
			d, s := t.declared(10)
			same(t, t.browse(d, s.Name, 10), nil, "what waits in an empty queue")
			want := text("m-1")[0]
			want.Metadata.Set("name", "value")
			p := to(s)
			p.Key, p.Attempt, p.ContentType = "a.key", 4, "text/plain"
			t.must(d.Publish(t.soon(), p, want), "publishing")
			t.publish(d, to(s), "m-2", "m-3")
			for _, limit := range []int{1, 2, 3, 10} {
				found, err := d.Browse(t.soon(), s.Name, limit)
				t.must(err, "browsing")
				n := min(limit, 3)
				same(t, ids(found), numbered("m", n), fmt.Sprintf("what is found where at most %d are asked for", limit))
				if last := found[len(found)-1]; last.Remaining != 3-n {
					t.errorf("%d messages are said to be behind the first %d of 3", last.Remaining, n)
				}
				t.sameMessage(found[0].Message, want, "what is found")
				if got := found[0]; got.Key != p.Key || got.Attempt != p.Attempt || got.ContentType != p.ContentType {
					t.errorf("what is found has key %q, attempt %d and content type %q", got.Key, got.Attempt, got.ContentType)
				}
				clear(found[0].Message.Payload)
			}
			got := t.receive(t.subscribe(d, s))
			t.settle(got, adapters.Ack)
			t.sameMessage(got.Message, want, "what is received after others looked at it")
		},
	},
	{
		ID:    "inspect/browse-takes-nothing",
		Rule:  "Browse leaves all messages in their queue, in their order, with their attempts, and does not touch those behind what it looked at.",
		Needs: adapters.CanBrowse | adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.declared(10)
			p := to(s)
			p.Attempt = 3
			t.publish(d, p, numbered("m", 5)...)
			for range 3 {
				t.browse(d, s.Name, 3)
			}
			if t.claims.Ability.Has(adapters.CanInspect) {
				t.inspected(d, s.Name, adapters.QueueInfo{Ready: 5})
			}
			held := t.hold(t.subscribe(d, s), 5)
			same(t, ids(held), numbered("m", 5), "what is received after others looked at it")
			for i, m := range held {
				if m.Attempt != p.Attempt {
					t.errorf("%q has attempt %d, not %d", m.Message.UUID, m.Attempt, p.Attempt)
				}
				if i >= 3 && (m.Redelivered || m.Returned != 0) {
					t.errorf("%q was not looked at, and counts as delivered before", m.Message.UUID)
				}
				t.settle(m, adapters.Ack)
			}
		},
	},
	{
		ID:    "inspect/browse-bounds",
		Rule:  "Browse refuses a limit that is not in 1..MaxBrowse as invalid.",
		Needs: adapters.CanBrowse,
		run: func(t *trial) {
			d, s := t.declared(1)
			for _, limit := range []int{-1, 0, adapters.MaxBrowse + 1} {
				_, err := d.Browse(t.soon(), s.Name, limit)
				t.is(err, adapters.ErrInvalid, fmt.Sprintf("browsing %d messages", limit))
			}
		},
	},
	{
		ID:    "inspect/list",
		Rule:  "Queues lists every queue once.",
		Needs: adapters.CanList,
		run: func(t *trial) {
			d := t.connect()
			var want []string
			for i := range 3 {
				s := queue(fmt.Sprintf("%s-%d", t.name("queue"), i), 1)
				t.declare(d, s)
				want = append(want, s.Name)
			}
			t.await("all queues are listed", func() bool {
				var got []string
				for info, err := range d.Queues(t.soon()) {
					t.must(err, "listing queues")
					if slices.Contains(want, info.Name) {
						got = append(got, info.Name)
					}
				}
				slices.Sort(got)
				if len(got) > len(want) {
					t.fatalf("the queues are listed as %q", got)
				}
				return slices.Equal(got, want)
			})
			for _, err := range d.Queues(t.soon()) {
				t.must(err, "listing the first queue")
				break // which ends it
			}
		},
	},
	{
		ID:    "inspect/bindings",
		Rule:  "Bindings reports what a group is bound to: each exchange and key, as long as it is bound.",
		Needs: adapters.CanListBindings | adapters.CanGroup | adapters.CanTopic | adapters.CanUnbind,
		run: func(t *trial) {
			d := t.connect()
			s := group(adapters.Topic, t.name("topic"), "merchant", "a.*", "b.#")
			t.declare(d, s)
			bound := func() []adapters.Binding {
				list, err := d.Bindings(t.soon(), s.QueueName())
				t.must(err, "listing bindings")
				slices.SortFunc(list, func(a, b adapters.Binding) int { return len(a.Key) - len(b.Key) })
				return list
			}
			list := bound()
			if len(list) == 2 && list[0].Key == "b.#" {
				slices.Reverse(list)
			}
			same(t, list, []adapters.Binding{{Exchange: s.Name, Key: "a.*"}, {Exchange: s.Name, Key: "b.#"}}, "the bindings")
			s.Keys = []string{"a.*"}
			t.must(d.Unbind(t.soon(), s), "unbinding")
			same(t, bound(), []adapters.Binding{{Exchange: s.Name, Key: "b.#"}}, "the bindings after one was removed")
		},
	},
	{
		ID:    "inspect/compare",
		Rule:  "Compare finds no difference in what was declared, one in what was declared otherwise, and nothing where nothing is; and it changes nothing.",
		Needs: adapters.CanCompare | adapters.CanExpire | adapters.CanFanout | adapters.CanRoute | adapters.CanPassive,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			s.Queue.MessageTTL = time.Hour
			_, err := d.Compare(t.soon(), s.Endpoint, s.Queue)
			t.is(err, adapters.ErrNotFound, "comparing a queue that does not exist")
			passive := queue(s.Name, 1)
			passive.Passive = true
			t.is(d.Declare(t.soon(), passive), adapters.ErrNotFound, "looking for it after that")
			t.declare(d, s)
			for _, x := range []struct {
				declared adapters.QueueSpec
				same     bool
			}{{s.Queue, true}, {adapters.QueueSpec{MessageTTL: time.Minute}, false}, {adapters.QueueSpec{}, false}, {s.Queue, true}} {
				found, err := d.Compare(t.soon(), s.Endpoint, x.declared)
				t.must(err, "comparing")
				if x.same != (len(found) == 0) {
					t.errorf("a queue of %+v, compared with %+v, differs in %v", s.Queue, x.declared, found)
				}
			}
			t.declare(d, s)

			exchange := group(adapters.Fanout, t.name("exchange"), "")
			_, err = d.Compare(t.soon(), exchange.Endpoint, adapters.QueueSpec{})
			t.is(err, adapters.ErrNotFound, "comparing an exchange that does not exist")
			t.declare(d, exchange)
			for kind, same := range map[adapters.Kind]bool{adapters.Fanout: true, adapters.Direct: false} {
				found, err := d.Compare(t.soon(), adapters.Endpoint{Kind: kind, Name: exchange.Name}, adapters.QueueSpec{})
				t.must(err, "comparing an exchange")
				if same != (len(found) == 0) {
					t.errorf("%s, compared with one that is %s, differs in %v", exchange.Endpoint, kind, found)
				}
			}
		},
	},
	{
		ID:    "inspect/purge",
		Rule:  "Purge drops what waits in a queue and returns how many messages that were; none becomes a dead letter, and those in hand stay.",
		Needs: adapters.CanPurge | adapters.CanDeadLetter | adapters.CanRequeue | adapters.CanBalance,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 2)
			s.Queue.DeadLetter = t.name("dead")
			t.declare(d, s)
			t.publish(d, to(s), numbered("m", 5)...)
			sub := t.subscribe(d, s)
			held := t.hold(sub, 2)
			for _, want := range []int{3, 0} {
				n, err := d.Purge(t.soon(), s.Name)
				t.must(err, "purging")
				if n != want {
					t.errorf("%d messages are said to be dropped, not %d", n, want)
				}
			}
			t.settle(held[0], adapters.Ack)
			t.settle(held[1], adapters.Requeue)
			same(t, t.take(sub, 1), []string{"m-2"}, "what comes after")
			t.publish(d, to(s), "after")
			same(t, t.take(sub, 1), []string{"after"}, "what comes last")
			t.silent(t.subscribe(d, queue(s.Queue.DeadLetter, 1)), "it was purged, and is a dead letter")
		},
	},
	{
		ID:    "inspect/delete",
		Rule:  "Delete deletes a queue with what is in it.",
		Needs: adapters.CanDelete | adapters.CanPassive,
		run: func(t *trial) {
			d, s := t.declared(1)
			t.publish(d, to(s), "a")
			t.must(d.Delete(t.soon(), s.Name, 0), "deleting")
			passive := s
			passive.Passive = true
			t.is(d.Declare(t.soon(), passive), adapters.ErrNotFound, "looking for it")
			t.declare(d, s)
			t.publish(d, to(s), "b")
			same(t, t.take(t.subscribe(d, s), 1), []string{"b"}, "what is in the queue that was made again")
		},
	},
	{
		ID:    "inspect/delete-if",
		Rule:  "Delete leaves a queue alone that has consumers or messages and is to be deleted only without: that is ErrPrecondition.",
		Needs: adapters.CanDelete | adapters.CanPassive,
		run: func(t *trial) {
			d, s := t.declared(1)
			t.publish(d, to(s), "a")
			both := adapters.IfUnused | adapters.IfEmpty
			for _, only := range []adapters.Condition{adapters.IfEmpty, both} {
				t.is(d.Delete(t.soon(), s.Name, only), adapters.ErrPrecondition, "deleting a queue with a message if it is empty")
			}
			sub := t.subscribe(d, s)
			held := t.receive(sub)
			for _, only := range []adapters.Condition{adapters.IfUnused, both} {
				t.is(d.Delete(t.soon(), s.Name, only), adapters.ErrPrecondition, "deleting a queue with a consumer if it is unused")
			}
			t.settle(held, adapters.Ack)
			t.publish(d, to(s), "b")
			same(t, t.take(sub, 1), []string{"b"}, "what comes to its consumer")
			t.must(sub.Stop(), "stopping")
			t.await("the queue is unused", func() bool {
				err := d.Delete(t.soon(), s.Name, both)
				if err != nil {
					t.is(err, adapters.ErrPrecondition, "deleting the queue")
				}
				return err == nil
			})
			s.Passive = true
			t.is(d.Declare(t.soon(), s), adapters.ErrNotFound, "looking for it")
		},
	},
	{
		ID:    "inspect/deleted-in-use",
		Rule:  "A subscription whose queue is deleted in use declares it again and goes on.",
		Needs: adapters.CanDelete | adapters.CanReturn,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			t.publish(d, to(s), "before")
			same(t, t.take(sub, 1), []string{"before"}, "what came before")
			t.must(t.connect().Delete(t.soon(), s.Name, 0), "deleting")
			p := to(s)
			p.Mandatory = true
			after := t.publishAgain(d, p, "after")
			same(t, t.take(sub, 1), []string{after}, "what came after")
		},
	},
	{
		ID:    "inspect/not-found",
		Rule:  "What is asked of a queue that does not exist is ErrNotFound, makes no queue, and disturbs nobody.",
		Needs: adapters.CanInspect | adapters.CanBrowse | adapters.CanPurge | adapters.CanDelete,
		run: func(t *trial) {
			d, s, sub := t.subscribed(2)
			t.publish(d, to(s), "a", "b")
			held := t.receive(sub)
			for _, ability := range t.inspections() {
				if ability != adapters.CanList {
					t.is(inspections[ability](t.soon(), d, t.name("missing")), adapters.ErrNotFound, ability.String()+" of a missing queue")
				}
			}
			_, err := d.Inspect(t.soon(), t.name("missing"))
			t.is(err, adapters.ErrNotFound, "inspecting it after all that")
			t.settle(held, adapters.Ack)
			t.publish(d, to(s), "c")
			got := t.hold(sub, 2)
			same(t, ids(got), []string{"b", "c"}, "what comes to another queue")
			for _, m := range got {
				if m.Redelivered {
					t.errorf("%q was delivered before, in a session that must have been lost", m.Message.UUID)
				}
				t.settle(m, adapters.Ack)
			}
		},
	},
	{
		ID:    "inspect/bounded",
		Rule:  "What is asked of a broker that stands still ends with its ctx.",
		Needs: adapters.CanInspect | adapters.CanBrowse | adapters.CanPurge | adapters.CanDelete,
		Hooks: WithFreeze,
		run: func(t *trial) {
			d, s := t.declared(1)
			t.freeze()
			for _, ability := range t.inspections() {
				err := t.within(500*time.Millisecond, ability.String(), func(ctx context.Context) error { return inspections[ability](ctx, d, s.Name) })
				t.is(err, context.DeadlineExceeded, ability.String())
			}
		},
	},
	{
		ID:    "inspect/heals",
		Rule:  "What is asked while a lost session is replaced waits for the next one.",
		Needs: adapters.CanInspect | adapters.CanBrowse | adapters.CanPurge | adapters.CanDelete,
		Hooks: WithCut,
		run: func(t *trial) {
			d, s := t.declared(1)
			t.inspected(d, s.Name, adapters.QueueInfo{})
			for _, ability := range t.inspections() {
				t.must(t.h.Cut(t.soon()), "cutting")
				t.must(inspections[ability](t.soon(), d, s.Name), ability.String()+" right after a cut")
			}
		},
	},
	{
		ID:    "inspect/while-blocked",
		Rule:  "A broker that takes no messages still answers what is asked of it, and can be purged.",
		Needs: adapters.CanInspect | adapters.CanBrowse | adapters.CanPurge | adapters.CanDelete,
		Hooks: WithBlock,
		run: func(t *trial) {
			d, s := t.declared(1)
			t.publish(d, to(s), "a")
			t.block()
			_ = t.within(silence, "Publish", func(ctx context.Context) error { return d.Publish(ctx, to(s), text("b")...) }) // what a broker notices
			for _, ability := range t.inspections() {
				t.must(inspections[ability](t.soon(), d, s.Name), ability.String())
			}
		},
	},
}

// inspections returns the abilities of an Inspector that are claimed, in the order of their bits:
// to delete is the last one.
func (t *trial) inspections() (claimed []adapters.Ability) {
	for _, ability := range slices.Sorted(maps.Keys(inspections)) {
		if t.claims.Ability.Has(ability) {
			claimed = append(claimed, ability)
		}
	}
	return claimed
}

// inspected checks what is said of a queue. A broker may come to it a moment later, and need not
// tell how many messages are in hand.
func (t *trial) inspected(d adapters.Inspector, name string, want adapters.QueueInfo) {
	want.Name = name
	var got adapters.QueueInfo
	seen := func() bool {
		var err error
		got, err = d.Inspect(t.soon(), name)
		t.must(err, "inspecting")
		known := got
		known.Oldest = want.Oldest
		if known.Unacked == -1 {
			known.Unacked = want.Unacked
		}
		return known == want
	}
	for range 100 { // what a broker counts may be old, and older on a busy machine
		if seen() {
			return
		}
		t.pass(silence)
	}
	t.errorf("the queue is said to be %+v, not %+v", got, want)
}

// browse returns the ids of what waits in a queue.
func (t *trial) browse(d adapters.Inspector, name string, limit int) []string {
	found, err := d.Browse(t.soon(), name, limit)
	t.must(err, "browsing")
	return ids(found)
}
