package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// replyCases are about replies that nobody waits for, or that cannot be given.
var replyCases = []Case{
	{
		ID:    "rpc/duplicate-reply",
		Rule:  "A second reply to a call is dropped and counted.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b, server := t.name("twice"), t.bus(), t.connect()
			requests := t.requests(server, name)
			got := call(t, t.ctx, b, name, "x")
			r := t.receive(requests)
			t.reply(server, r, r.CorrelationID, "first")
			t.reply(server, r, r.CorrelationID, "second")
			t.settle(r, adapters.Ack)
			same(t, []reply{wait(t, got, "a reply")}, []reply{{"first", nil}}, "the reply")
			t.dropped(b, 1)
			t.callsGoOn(b, server, requests, name)
		},
	},
	{
		ID:    "rpc/late-reply",
		Rule:  "A reply to a call that was given up is dropped and counted.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b, server := t.name("late"), t.bus(), t.connect()
			requests := t.requests(server, name)
			cancels := t.subscribe(server, private(adapters.Fanout, name+".cancel"))
			ctx, cancel := context.WithCancel(t.ctx)
			defer cancel()
			got := call(t, ctx, b, name, "x")
			r := t.receive(requests)
			cancel()
			t.is(wait(t, got, "the call is given up").err, context.Canceled, "the call that was given up")
			cancelled := t.receive(cancels)
			t.settle(cancelled, adapters.Ack)
			same(t, []string{cancelled.CorrelationID}, []string{r.CorrelationID}, "the call that servers are told of")
			t.reply(server, r, r.CorrelationID, "late")
			t.settle(r, adapters.Ack)
			t.dropped(b, 1)
			t.callsGoOn(b, server, requests, name)
		},
	},
	{
		ID:    "rpc/foreign-reply",
		Rule:  "A reply to a call that was never made reaches no caller: it is dropped and counted.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b, server := t.name("foreign"), t.bus(), t.connect()
			requests := t.requests(server, name)
			got := call(t, t.ctx, b, name, "x")
			r := t.receive(requests)
			t.reply(server, r, "an id that nobody gave", "foreign")
			t.reply(server, r, "", "foreign")
			t.dropped(b, 2)
			t.reply(server, r, r.CorrelationID, "right")
			t.settle(r, adapters.Ack)
			same(t, []reply{wait(t, got, "a reply")}, []reply{{"right", nil}}, "the reply")
		},
	},
	{
		ID:    "rpc/address",
		Rule:  "Each reply subscription has an address of its own, and gets what is sent to it, with correlation id and headers, and nothing else.",
		Needs: adapters.CanReply,
		run: func(t *trial) {
			d := t.connect()
			s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 10}
			subs := []adapters.Subscription{t.subscribe(d, s), t.subscribe(d, s), t.subscribe(t.connect(), s)}
			server := t.connect()
			for round := range 3 {
				for i, sub := range subs {
					id := fmt.Sprintf("reply-%d-%d", i, round)
					p := adapters.Publication{
						To:         adapters.Endpoint{Kind: adapters.Reply, Name: sub.Address()},
						Properties: adapters.Properties{CorrelationID: "of " + id},
					}
					msg := text(id)[0]
					msg.Metadata["for"] = id
					t.must(server.Publish(t.soon(), p, msg), "replying")
				}
			}
			for i, sub := range subs {
				for round := range 3 {
					got, id := t.receive(sub), fmt.Sprintf("reply-%d-%d", i, round)
					t.settle(got, adapters.Ack)
					same(t, []string{got.Message.UUID, got.CorrelationID, got.Message.Metadata["for"]}, []string{id, "of " + id, id}, "a reply's id, correlation id and header")
				}
			}
		},
	},
	{
		ID:    "rpc/caller-gone",
		Rule:  "A caller that goes away is no trouble for the server: its call runs once, its reply is lost, and other calls go on.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, began, release := t.name("deserted"), make(chan string, 10), map[string]chan struct{}{"leaving": make(chan struct{}), "busy": make(chan struct{})}
			serve(t, t.bus(), name, func(ctx context.Context, s string) (string, error) {
				began <- s
				if c := release[s]; c != nil {
					select {
					case <-c:
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}
				return s, nil
			}, patterns.Workers(2))
			leaving, staying := t.bus(), t.bus()
			busy := call(t, t.ctx, staying, name, "busy")
			wait(t, began, "a call runs")
			got := call(t, t.ctx, leaving, name, "leaving")
			wait(t, began, "the leaver's call runs")
			t.must(leaving.Close(t.soon()), "closing the caller's bus")
			t.is(wait(t, got, "the call ends").err, adapters.ErrClosed, "the call of a bus that was closed")
			close(release["leaving"])
			for _, next := range []string{"a", "b"} { // once the worker has done with the leaver
				same(t, []reply{wait(t, call(t, t.ctx, staying, name, next), "a reply")}, []reply{{next, nil}}, "another's call")
				same(t, []string{wait(t, began, "it runs")}, []string{next}, "what ran next")
			}
			close(release["busy"])
			same(t, []reply{wait(t, busy, "its reply")}, []reply{{"busy", nil}}, "the call that was being run all the time")
		},
	},
	{
		ID:    "rpc/too-large",
		Rule:  "A request or a reply that is too large is an error for the caller, and no trouble for the server.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			const most = 1000
			name, ran, limit := t.name("large"), make(chan int, 10), patterns.MaxPayload(most)
			serve(t, t.bus(limit), name, func(_ context.Context, s string) (string, error) {
				ran <- len(s)
				return s + s, nil
			})
			b := t.bus(limit)
			large, doubled, small := strings.Repeat("x", most), strings.Repeat("x", most*2/3), "x"
			t.is(wait(t, call(t, t.ctx, b, name, large), "an error").err, adapters.ErrTooLarge, "a request that is too large")
			err := wait(t, call(t, t.ctx, b, name, doubled), "a reply").err
			if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodeTooLarge || !errors.Is(err, adapters.ErrTooLarge) {
				t.errorf("of a reply that is too large the caller hears: %v", err)
			}
			same(t, []reply{wait(t, call(t, t.ctx, b, name, small), "a reply")}, []reply{{"xx", nil}}, "the next call")
			close(ran)
			var sizes []int
			for n := range ran {
				sizes = append(sizes, n)
			}
			same(t, sizes, []int{len(doubled), len(small)}, "the sizes of the requests that were run")
		},
	},
}

// requests subscribes to the requests of a function, so that a case can reply
// them by hand.
func (t *trial) requests(d adapters.Driver, name string) adapters.Subscription {
	s := queue(name, 10)
	s.Queue.AutoDelete = true
	return t.subscribe(d, s)
}

var replies atomic.Int64

// reply sends a reply to where a request wants it.
func (t *trial) reply(d adapters.Driver, request adapters.Delivery, id, value string) {
	p := adapters.Publication{
		To:         adapters.Endpoint{Kind: adapters.Reply, Name: request.ReplyTo},
		Properties: adapters.Properties{ContentType: patterns.JSON{}.ContentType(), CorrelationID: id},
	}
	msg := message.NewMessage(fmt.Sprint("reply-", replies.Add(1)), fmt.Appendf(nil, "%q", value))
	t.must(d.Publish(t.soon(), p, msg), "replying")
}

// dropped checks that a bus comes to have dropped n replies, and no more.
func (t *trial) dropped(b *patterns.Bus, n uint64) {
	t.await("all replies that nobody waits for are counted", func() bool { return b.Stats().LateReplies >= n })
	same(t, []uint64{b.Stats().LateReplies}, []uint64{n}, "replies dropped")
}

// callsGoOn checks that calls go on as before.
func (t *trial) callsGoOn(b *patterns.Bus, server adapters.Driver, requests adapters.Subscription, name string) {
	got := call(t, t.ctx, b, name, "next")
	r := t.receive(requests)
	t.reply(server, r, r.CorrelationID, "fine")
	t.settle(r, adapters.Ack)
	same(t, []reply{wait(t, got, "a reply")}, []reply{{"fine", nil}}, "the next call")
}
