package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var publishCases = []Case{
	{
		ID:    "publish/confirmed-is-stored",
		Rule:  "A message whose Publish returned nil is in its queue, even if its publisher is gone right after.",
		Needs: adapters.CanConfirm,
		run: func(t *trial) {
			d, s := t.declared(10)
			ids := numbered("m", 10)
			t.publish(d, to(s), ids[:5]...)
			for _, id := range ids[5:] {
				t.publish(d, to(s), id)
			}
			t.must(d.Close(t.soon()), "closing the publisher")
			same(t, t.take(t.subscribe(t.connect(), s), len(ids)), ids, "what another client found")
		},
	},
	{
		ID:   "publish/whole",
		Rule: "A message arrives as it was published: its id, payload and metadata, its key and its properties.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			sub := t.subscribe(t.connect(), s)
			m := message.NewMessage("the-id", []byte(`{"dish": "pad thai"}`))
			m.Metadata = message.Metadata{"one": "1", "two": "", "three": "drei"}
			p := to(s)
			p.Key = "a.key"
			p.Properties = adapters.Properties{
				ContentType: "application/json", ContentEncoding: "identity", Type: "an-order", AppID: "till",
				CorrelationID: "a-call", ReplyTo: "an-address",
				Timestamp: time.Unix(1_700_000_000, 0), Attempt: 7,
			}
			t.must(d.Publish(t.soon(), p, m), "publishing")
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			t.sameMessage(got.Message, m, "")
			properties := func(key string, p adapters.Properties) []string {
				return []string{key, p.ContentType, p.ContentEncoding, p.Type, p.AppID, p.CorrelationID, p.ReplyTo, fmt.Sprint(p.Attempt), p.Timestamp.UTC().String()}
			}
			same(t, properties(got.Key, got.Properties), properties(p.Key, p.Properties),
				"key, content type and encoding, type, app id, correlation id, reply address, attempt and timestamp")

			t.publish(d, to(s), "plain")
			got = t.receive(sub)
			t.settle(got, adapters.Ack)
			if got.Attempt != 1 || got.Timestamp.IsZero() || got.Key != "" || got.ReplyTo != "" || len(got.Message.Metadata) != 0 {
				t.errorf("a message with nothing set has key %q, metadata %v and the properties %+v", got.Key, got.Message.Metadata, got.Properties)
			}
		},
	},
	{
		ID:    "publish/unroutable",
		Rule:  "A mandatory message that reaches no queue is ErrUnroutable, in a *PublishError that names it, and is stored nowhere.",
		Needs: adapters.CanReturn,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			p := to(s)
			p.Mandatory = true
			msgs := text("a", "b")
			t.blames(d.Publish(t.soon(), p, msgs...), adapters.ErrUnroutable, msgs, 0, 1)
			sub := t.subscribe(d, s)
			t.publish(d, p, "later")
			same(t, t.take(sub, 1), []string{"later"}, "what is in the queue that was made afterwards")
		},
	},
	{
		ID:    "publish/unroutable-among-many",
		Rule:  "With many publishers at the same time, ErrUnroutable comes back for the messages that reached no queue, and for no others.",
		Needs: adapters.CanReturn,
		run: func(t *trial) {
			const publishers, each = 8, 30
			d, s := t.declared(100)
			there, nowhere := to(s), to(queue(t.name("missing"), 1))
			there.Mandatory, nowhere.Mandatory = true, true
			done := make(chan struct{}, publishers)
			var want []string
			for n := range publishers {
				routable := numbered(fmt.Sprintf("there-%d", n), each)
				unroutable := numbered(fmt.Sprintf("nowhere-%d", n), each)
				want = append(want, routable...)
				t.spawn(func() {
					defer func() { done <- struct{}{} }()
					for i := range each {
						if err := d.Publish(t.soon(), there, text(routable[i])...); err != nil {
							t.errorf("publishing %s, which has a queue: %v", routable[i], err)
						}
						msgs := text(unroutable[i])
						t.blames(d.Publish(t.soon(), nowhere, msgs...), adapters.ErrUnroutable, msgs, 0)
					}
				})
			}
			for range publishers {
				wait(t, done, "all publishers are done")
			}
			t.sameSet(t.take(t.subscribe(d, s), len(want)), want, "what is in the queue")
		},
	},
	{
		ID:   "publish/unroutable-optional",
		Rule: "A message that is not mandatory and reaches no queue is no error.",
		run: func(t *trial) {
			d := t.connect()
			s := queue(t.name("missing"), 1)
			t.publish(d, to(s), "a", "b")
			t.purged(s)
		},
	},
	{
		ID:    "publish/nacked",
		Rule:  "A queue that is full and refuses is ErrNacked, for the messages that it did not take; it takes more once there is room.",
		Needs: adapters.CanConfirm | adapters.CanLimit,
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 10)
			s.Queue.MaxLength = 3
			t.declare(d, s)
			// Not every broker is exact: some take a few more.
			var taken []string
			var err error
			for i := 0; i < 100 && err == nil; i++ {
				id := fmt.Sprintf("m-%d", i+1)
				msgs := text(id)
				if err = d.Publish(t.soon(), to(s), msgs...); err == nil {
					taken = append(taken, id)
				} else {
					t.blames(err, adapters.ErrNacked, msgs, 0)
				}
			}
			if err == nil || len(taken) < s.Queue.MaxLength {
				t.errorf("a queue of at most %d messages took %d, and then: %v", s.Queue.MaxLength, len(taken), err)
			}
			sub := t.subscribe(d, s)
			same(t, t.take(sub, len(taken)), taken, "what is in the queue")
			t.await("there is room again", func() bool { return d.Publish(t.soon(), to(s), text("later")...) == nil })
			same(t, t.take(sub, 1), []string{"later"}, "what comes next")
		},
	},
	{
		ID:   "publish/too-large",
		Rule: "A message larger than the adapter says it takes is ErrTooLarge; it is not stored, and the client goes on.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			if most := d.Features().MaxBody; most > 0 {
				msgs := text("before", "too-large", "after")
				msgs[1].Payload = make([]byte, most+1)
				t.blames(d.Publish(t.soon(), to(s), msgs...), adapters.ErrTooLarge, msgs, 1)
				same(t, t.take(sub, 2), []string{"before", "after"}, "what was stored of the call")
			}
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what comes next")
		},
	},
	{
		ID:   "publish/invalid",
		Rule: "A publication that breaks a rule is ErrInvalid, and nothing is sent.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			for what, change := range map[string]func(*adapters.Publication){
				"no name":               func(p *adapters.Publication) { p.To.Name = "" },
				"a name of the broker":  func(p *adapters.Publication) { p.To.Name = "amq." + p.To.Name },
				"a long name":           func(p *adapters.Publication) { p.To.Name = strings.Repeat("n", adapters.MaxNameBytes+1) },
				"a long key":            func(p *adapters.Publication) { p.Key = strings.Repeat("k", adapters.MaxKeyBytes+1) },
				"a key of two lines":    func(p *adapters.Publication) { p.Key = "one\ntwo" },
				"a negative delay":      func(p *adapters.Publication) { p.Delay = -1 },
				"a negative TTL":        func(p *adapters.Publication) { p.TTL = -1 },
				"a negative attempt":    func(p *adapters.Publication) { p.Attempt = -1 },
				"a long content type":   func(p *adapters.Publication) { p.ContentType = strings.Repeat("t", adapters.MaxNameBytes+1) },
				"a long correlation id": func(p *adapters.Publication) { p.CorrelationID = strings.Repeat("c", adapters.MaxNameBytes+1) },
				"a long reply address":  func(p *adapters.Publication) { p.ReplyTo = strings.Repeat("r", adapters.MaxNameBytes+1) },
				"a long type":           func(p *adapters.Publication) { p.Type = strings.Repeat("t", adapters.MaxNameBytes+1) },
				"a long app id":         func(p *adapters.Publication) { p.AppID = strings.Repeat("a", adapters.MaxNameBytes+1) },
				"a long encoding":       func(p *adapters.Publication) { p.ContentEncoding = strings.Repeat("e", adapters.MaxNameBytes+1) },
			} {
				p := to(s)
				change(&p)
				t.is(d.Publish(t.soon(), p, text("invalid")...), adapters.ErrInvalid, "publishing with "+what)
				t.is(d.Publish(t.soon(), p), adapters.ErrInvalid, "publishing no message with "+what)
			}
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what was sent")
		},
	},
	{
		ID:   "publish/batch-with-a-bad-one",
		Rule: "One bad message does not stop the others of its call, and the error says which it was.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			msgs := text("a", strings.Repeat("x", adapters.MaxNameBytes+1), "c", "d", "e")
			msgs[3].Metadata.Set(strings.Repeat("n", adapters.MaxNameBytes+1), "")
			t.blames(d.Publish(t.soon(), to(s), msgs...), adapters.ErrInvalid, msgs, 1, 3)
			same(t, t.take(sub, 3), []string{"a", "c", "e"}, "what was published")
		},
	},
	{
		ID:   "publish/no-messages",
		Rule: "To publish no messages is no error.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			t.publish(d, to(s))
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what was published")
		},
	},
	{
		ID:   "publish/ended-ctx",
		Rule: "With a ctx that has ended Publish sends nothing, and its error wraps that of the ctx.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			ended, cancel := context.WithCancel(t.ctx)
			cancel()
			t.is(d.Publish(ended, to(s), text("a", "b")...), context.Canceled, "publishing")
			t.is(d.PublishAsync(ended, to(s), text("c")[0], func(error) {
				t.errorf("PublishAsync called back though it returned an error")
			}), context.Canceled, "publishing asynchronously")
			t.publish(d, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what was published")
		},
	},
	{
		ID:    "publish/ended-while-waiting",
		Rule:  "A publish that waits for a broker that stands still comes back when its ctx ends, and says that the message may be stored.",
		Hooks: WithFreeze,
		run: func(t *trial) {
			d, s := t.declared(10)
			t.publish(d, to(s), "before")
			thaw := t.freeze()
			for i := range 3 {
				err := t.within(500*time.Millisecond, "Publish", func(ctx context.Context) error {
					return d.Publish(ctx, to(s), text(fmt.Sprintf("frozen-%d", i+1))...)
				})
				t.gaveUp(err, "publishing to a broker that stands still")
			}
			thaw()
			t.publishAgain(d, to(s), "after")
		},
	},
	{
		ID:    "publish/blocked",
		Rule:  "While the broker takes no messages a publish waits as long as its ctx allows, and consumers go on.",
		Hooks: WithBlock,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			ids := numbered("before", 5)
			t.publish(d, to(s), ids...)
			unblock := t.block()
			// The first ones may still be taken: some brokers look at who
			// publishes only when somebody does.
			var err error
			for i := 0; i < 100 && err == nil; i++ {
				err = t.within(500*time.Millisecond, "Publish", func(ctx context.Context) error {
					return d.Publish(ctx, to(s), text(fmt.Sprintf("blocked-%d", i+1))...)
				})
			}
			t.gaveUp(err, "publishing to a broker that takes nothing")
			same(t, t.take(sub, len(ids)), ids, "what was consumed meanwhile")
			unblock()
			t.publishAgain(d, to(s), "after")
		},
	},
	{
		ID:   "publish/async",
		Rule: "PublishAsync keeps the order of its calls, does not keep their messages, and calls back once for each.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 200)
			sub := t.subscribe(t.connect(), s)
			ids := numbered("m", 200)
			calls := make([]atomic.Int32, len(ids))
			answers := make(chan error, 2*len(ids))
			messages := func() []*message.Message { // some of them too large to be copied lightly
				all := text(ids...)
				for i := 49; i < len(all); i += 50 {
					all[i].Payload = bytes.Repeat(all[i].Payload, 50<<10)
				}
				return all
			}
			for i, m := range messages() {
				t.must(d.PublishAsync(t.soon(), to(s), m, func(err error) {
					calls[i].Add(1)
					answers <- err
				}), "publishing asynchronously")
				m.UUID = "another"
				clear(m.Payload)
				m.Metadata.Set("more", "of it")
			}
			for range ids {
				t.must(wait(t, answers, "all publishes are answered"), "publishing asynchronously")
			}
			for i, want := range messages() {
				got := t.receive(sub)
				t.settle(got, adapters.Ack)
				if t.sameMessage(got.Message, want, fmt.Sprintf("message %d", i)); t.failed() {
					return // one says it all
				}
			}
			t.must(d.Close(t.soon()), "closing the publisher")
			for i := range calls {
				if n := calls[i].Load(); n != 1 {
					t.errorf("for message %d it called back %d times", i, n)
				}
			}
		},
	},
	{
		ID:    "publish/async-outcome",
		Rule:  "PublishAsync calls back with what became of the message, as Publish would have returned it.",
		Needs: adapters.CanReturn,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			there, nowhere := to(s), to(queue(t.name("missing"), 1))
			there.Mandatory, nowhere.Mandatory = true, true
			type outcome struct {
				i   int
				err error
			}
			outcomes := make(chan outcome, 20)
			for i, m := range text(numbered("m", 10)...) {
				p := there
				if i%3 == 1 {
					p = nowhere
				}
				t.must(d.PublishAsync(t.soon(), p, m, func(err error) { outcomes <- outcome{i, err} }), "publishing asynchronously")
			}
			for range 10 {
				o := wait(t, outcomes, "all publishes are answered")
				var want error
				if o.i%3 == 1 {
					want = adapters.ErrUnroutable
				}
				t.is(o.err, want, fmt.Sprintf("message %d", o.i))
				if _, wrapped := errors.AsType[*adapters.PublishError](o.err); wrapped {
					t.errorf("message %d: the error is wrapped in a *PublishError", o.i)
				}
			}
			same(t, t.take(sub, 7), []string{"m-1", "m-3", "m-4", "m-6", "m-7", "m-9", "m-10"}, "what was published")
		},
	},
}
