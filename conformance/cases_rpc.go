package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// rpcNeeds is what patterns.RPC takes.
const rpcNeeds = adapters.CanReply | adapters.CanReturn | adapters.CanExpire | adapters.CanFanout | adapters.CanAutoDelete

var rpcCases = []Case{
	{
		ID:    "rpc/correlated",
		Rule:  "However many calls are under way at once, each is run once and its caller gets its own answer.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, ran := t.name("square"), atomic.Int64{}
			for range 2 {
				serve(t, t.bus(), name, func(_ context.Context, n int) (int, error) {
					ran.Add(1)
					return n * n, nil
				}, patterns.Workers(4))
			}
			callers := []*patterns.Bus{t.bus(), t.bus()}
			var calling sync.WaitGroup
			var mu sync.Mutex
			var wrong []string
			const calls = 100
			for i := range calls {
				calling.Go(func() {
					got, err := patterns.NewRPC[int, int](callers[i%2], name).Call(t.soon(), i)
					if err != nil || got != i*i {
						mu.Lock()
						defer mu.Unlock()
						wrong = append(wrong, fmt.Sprintf("call %d was answered with %d, %v", i, got, err))
					}
				})
			}
			calling.Wait()
			if len(wrong) > 0 {
				t.errorf("%d of %d calls went wrong; %s", len(wrong), calls, wrong[0])
			}
			same(t, []int64{ran.Load()}, []int64{calls}, "how often the function ran")
			for _, b := range callers {
				same(t, []uint64{b.Stats().LateReplies}, []uint64{0}, "answers that nobody waited for")
			}
		},
	},
	{
		ID:    "rpc/deadline",
		Rule:  "The function's ctx has the time that its caller has left, and ends with it.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, ended := t.name("slow"), make(chan error, 1)
			serve(t, t.bus(), name, func(ctx context.Context, wait bool) (time.Duration, error) {
				if wait {
					<-ctx.Done()
					ended <- ctx.Err()
					return 0, ctx.Err()
				}
				deadline, ok := ctx.Deadline()
				if !ok {
					return 0, errors.New("the ctx has no deadline")
				}
				return time.Until(deadline), nil
			})
			rpc := patterns.NewRPC[bool, time.Duration](t.bus(), name)
			const given = 40 * time.Second
			ctx, cancel := context.WithTimeout(t.ctx, given)
			defer cancel()
			left, err := rpc.Call(ctx, false)
			t.must(err, "calling with 40 s to go")
			if left <= given/2 || left > given {
				t.errorf("with 40 s to go the function had %v", left)
			}
			ctx, cancel = context.WithTimeout(t.ctx, 300*time.Millisecond)
			defer cancel()
			_, err = rpc.Call(ctx, true)
			t.is(err, context.DeadlineExceeded, "calling a function that takes longer")
			wait(t, ended, "the function's ctx ends")
		},
	},
	{
		ID:    "rpc/expired",
		Rule:  "A request whose caller's time is up before a server is free is not run.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, began, release := t.name("busy"), make(chan string, 10), make(chan struct{})
			serve(t, t.bus(), name, func(ctx context.Context, s string) (string, error) {
				began <- s
				select {
				case <-release:
				case <-ctx.Done():
				}
				return s, nil
			})
			b := t.bus()
			first := call(t, t.ctx, b, name, "first")
			wait(t, began, "the first call runs")
			// Nobody cancels this one: it is up to the broker.
			p := to(queue(name, 1))
			p.TTL, p.ContentType, p.Mandatory = 100*time.Millisecond, patterns.JSON{}.ContentType(), true
			t.must(t.connect().Publish(t.soon(), p, message.NewMessage("expired", []byte(`"expired"`))), "publishing a request")
			t.pass(300 * time.Millisecond)
			close(release)
			same(t, []answer{wait(t, first, "the first answer")}, []answer{{"first", nil}}, "the first answer")
			same(t, []answer{wait(t, call(t, t.ctx, b, name, "last"), "the last answer")}, []answer{{"last", nil}}, "the last answer")
			same(t, []string{wait(t, began, "the last call runs")}, []string{"last"}, "what ran next")
		},
	},
	{
		ID:    "rpc/cancelled",
		Rule:  "When a caller gives up, the ctx of the function ends at its server, and that of no other call.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, began, ended, release := t.name("patient"), make(chan string, 2), make(chan string, 2), make(chan struct{})
			serve(t, t.bus(), name, func(ctx context.Context, s string) (string, error) {
				began <- s
				select {
				case <-ctx.Done():
					ended <- s
				case <-release:
				}
				return s, nil
			}, patterns.Workers(2))
			b := t.bus()
			ctx, cancel := context.WithTimeout(t.ctx, 2*patience) // so that it is not the deadline that ends it
			defer cancel()
			leaving := call(t, ctx, b, name, "leaving")
			wait(t, began, "the first call runs")
			staying := call(t, t.ctx, b, name, "staying")
			wait(t, began, "the second call runs")
			cancel()
			t.is(wait(t, leaving, "the caller gets an error").err, context.Canceled, "the call that was given up")
			same(t, []string{wait(t, ended, "the ctx of the function ends")}, []string{"leaving"}, "whose ctx ended")
			close(release)
			same(t, []answer{wait(t, staying, "the other's answer")}, []answer{{"staying", nil}}, "the other call")
		},
	},
	{
		ID:    "rpc/remote-error",
		Rule:  "An error that the function returns reaches the caller as a RemoteError with its text and code, in which errors.Is finds the error that has the code.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			errNoDish := errors.New("no such dish")
			name, code := t.name("cook"), patterns.WithErrorCode("no-dish", errNoDish)
			serve(t, t.bus(code), name, func(_ context.Context, s string) (string, error) {
				switch s {
				case "known":
					return "", fmt.Errorf("the kitchen says: %w", errNoDish)
				case "rejected":
					return "", patterns.Reject(errors.New("not this one"))
				}
				return "", errors.New("the kitchen is on fire")
			})
			b := t.bus(code)
			for request, want := range map[string]patterns.RemoteError{
				"known":    {Code: "no-dish", Message: "the kitchen says: no such dish"},
				"rejected": {Code: patterns.CodeRejected, Message: "not this one"},
				"unknown":  {Code: patterns.CodeInternal, Message: "the kitchen is on fire"},
			} {
				err := wait(t, call(t, t.ctx, b, name, request), "an answer").err
				got, ok := errors.AsType[*patterns.RemoteError](err)
				if !ok || got.Code != want.Code || got.Message != want.Message {
					t.errorf("the error is %v, not a remote one with the code %q and the text %q", err, want.Code, want.Message)
				}
				if errors.Is(err, errNoDish) != (request == "known") {
					t.errorf("of %v errors.Is says %v", err, request != "known")
				}
			}
			_, err := patterns.NewRPC[int, string](b, name).Call(t.soon(), 7) // which is no string
			if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodeBadRequest {
				t.errorf("a request that does not decode was answered with %v", err)
			}
		},
	},
	{
		ID:    "rpc/panic",
		Rule:  "A panic in the function reaches the caller as a RemoteError that says so, and the server goes on.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name := t.name("shaky")
			serve(t, t.bus(), name, func(_ context.Context, s string) (string, error) {
				if s == "panic" {
					panic("out of basil")
				}
				return s, nil
			})
			b := t.bus()
			err := wait(t, call(t, t.ctx, b, name, "panic"), "an answer").err
			if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodePanic || !strings.Contains(got.Message, "out of basil") {
				t.errorf("the error is %v", err)
			}
			same(t, []answer{wait(t, call(t, t.ctx, b, name, "fine"), "an answer")}, []answer{{"fine", nil}}, "the next call")
		},
	},
	{
		ID:    "rpc/no-server",
		Rule:  "A call that nobody serves fails with ErrNoServer at once, before the first server has come and after the last one has gone.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b := t.name("echo"), t.bus()
			rpc := patterns.NewRPC[string, string](b, name)
			err := t.promptly(func(ctx context.Context) error { _, err := rpc.Call(ctx, "x"); return err })
			t.is(err, patterns.ErrNoServer, "calling before there is a server")
			sub := serve(t, t.bus(), name, func(_ context.Context, s string) (string, error) { return s, nil })
			same(t, []answer{wait(t, call(t, t.ctx, b, name, "x"), "an answer")}, []answer{{"x", nil}}, "the answer of a server")
			t.must(sub.Stop(t.soon()), "stopping the server")
			t.await("calls fail with ErrNoServer after the last server has gone", func() bool {
				ctx, cancel := context.WithTimeout(t.ctx, time.Second)
				defer cancel()
				_, err := rpc.Call(ctx, "x")
				return errors.Is(err, patterns.ErrNoServer)
			})
		},
	},
	{
		ID:    "rpc/server-dies",
		Rule:  "When a server dies in the middle of a call another one answers it, and where there is none the caller gets an error by its deadline.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b := t.name("deadly"), t.bus()
			dying := func() (die func(), began chan string) {
				b := t.bus()
				began = make(chan string, 2)
				sub := serve(t, b, name, func(ctx context.Context, s string) (string, error) {
					began <- s
					<-ctx.Done()
					return "too late", ctx.Err()
				})
				return func() {
					t.must(b.Driver().Close(t.soon()), "closing a server's client")
					wait(t, sub.Done(), "the server ends")
				}, began
			}
			die, began := dying()
			saved := call(t, t.ctx, b, name, "saved")
			wait(t, began, "the first server runs the call")
			other := t.bus()
			sub := serve(t, other, name, func(_ context.Context, s string) (string, error) { return s, nil })
			die()
			same(t, []answer{wait(t, saved, "the other server's answer")}, []answer{{"saved", nil}}, "the call whose server died")

			die, began = dying()
			t.must(sub.Stop(t.soon()), "stopping the other server")
			ctx, cancel := context.WithTimeout(t.ctx, time.Second)
			defer cancel()
			lost := call(t, ctx, b, name, "lost")
			wait(t, began, "the last server runs the call")
			die()
			if got := wait(t, lost, "the caller hears of it"); got.err == nil {
				t.errorf("a call whose only server died was answered with %q", got.value)
			}
		},
	},
	{
		ID:    "rpc/duplicate-reply",
		Rule:  "A second answer to a call is dropped and counted.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b, server := t.name("twice"), t.bus(), t.connect()
			requests := t.requests(server, name)
			got := call(t, t.ctx, b, name, "x")
			r := t.receive(requests)
			t.answer(server, r, r.CorrelationID, "first")
			t.answer(server, r, r.CorrelationID, "second")
			t.settle(r, adapters.Ack)
			same(t, []answer{wait(t, got, "an answer")}, []answer{{"first", nil}}, "the answer")
			t.dropped(b, 1)
			t.answered(b, server, requests, name)
		},
	},
	{
		ID:    "rpc/late-reply",
		Rule:  "An answer to a call that was given up is dropped and counted.",
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
			t.answer(server, r, r.CorrelationID, "late")
			t.settle(r, adapters.Ack)
			t.dropped(b, 1)
			t.answered(b, server, requests, name)
		},
	},
	{
		ID:    "rpc/foreign-reply",
		Rule:  "An answer to a call that was never made reaches no caller: it is dropped and counted.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, b, server := t.name("foreign"), t.bus(), t.connect()
			requests := t.requests(server, name)
			got := call(t, t.ctx, b, name, "x")
			r := t.receive(requests)
			t.answer(server, r, "an id that nobody gave", "foreign")
			t.answer(server, r, "", "foreign")
			t.dropped(b, 2)
			t.answer(server, r, r.CorrelationID, "right")
			t.settle(r, adapters.Ack)
			same(t, []answer{wait(t, got, "an answer")}, []answer{{"right", nil}}, "the answer")
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
					id := fmt.Sprintf("answer-%d-%d", i, round)
					p := adapters.Publication{
						To:         adapters.Endpoint{Kind: adapters.Reply, Name: sub.Address()},
						Properties: adapters.Properties{CorrelationID: "of " + id},
					}
					msg := text(id)[0]
					msg.Metadata["for"] = id
					t.must(server.Publish(t.soon(), p, msg), "answering")
				}
			}
			for i, sub := range subs {
				for round := range 3 {
					got, id := t.receive(sub), fmt.Sprintf("answer-%d-%d", i, round)
					t.settle(got, adapters.Ack)
					same(t, []string{got.Message.UUID, got.CorrelationID, got.Message.Metadata["for"]}, []string{id, "of " + id, id}, "an answer's id, correlation id and header")
				}
			}
		},
	},
	{
		ID:    "rpc/caller-gone",
		Rule:  "A caller that goes away is no trouble for the server: its call runs once, its answer is lost, and other calls go on.",
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
				same(t, []answer{wait(t, call(t, t.ctx, staying, name, next), "an answer")}, []answer{{next, nil}}, "another's call")
				same(t, []string{wait(t, began, "it runs")}, []string{next}, "what ran next")
			}
			close(release["busy"])
			same(t, []answer{wait(t, busy, "its answer")}, []answer{{"busy", nil}}, "the call that was being run all the time")
		},
	},
	{
		ID:    "rpc/too-large",
		Rule:  "A request or an answer that is too large is an error for the caller, and no trouble for the server.",
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
			err := wait(t, call(t, t.ctx, b, name, doubled), "an answer").err
			if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodeTooLarge || !errors.Is(err, adapters.ErrTooLarge) {
				t.errorf("of an answer that is too large the caller hears: %v", err)
			}
			same(t, []answer{wait(t, call(t, t.ctx, b, name, small), "an answer")}, []answer{{"xx", nil}}, "the next call")
			close(ran)
			var sizes []int
			for n := range ran {
				sizes = append(sizes, n)
			}
			same(t, sizes, []int{len(doubled), len(small)}, "the sizes of the requests that were run")
		},
	},
}

// serve serves a function until the case is over.
func serve[Req, Resp any](t *trial, b *patterns.Bus, name string, f func(context.Context, Req) (Resp, error), opts ...patterns.ServeOption) *patterns.Subscription {
	sub, err := patterns.NewRPC[Req, Resp](b, name).Serve(context.WithoutCancel(t.ctx), f, opts...)
	t.must(err, "serving")
	return sub
}

// answer is what a call returned.
type answer struct {
	value string
	err   error
}

// call makes a call, and returns where its answer comes.
func call(t *trial, ctx context.Context, b *patterns.Bus, name, request string) <-chan answer {
	got := make(chan answer, 1)
	t.spawn(func() {
		value, err := patterns.NewRPC[string, string](b, name).Call(ctx, request)
		got <- answer{value, err}
	})
	return got
}

// requests subscribes to the requests of a function, so that a case can answer
// them by hand.
func (t *trial) requests(d adapters.Driver, name string) adapters.Subscription {
	s := queue(name, 10)
	s.Queue.AutoDelete = true
	return t.subscribe(d, s)
}

var answers atomic.Int64

// answer sends an answer to where a request wants it.
func (t *trial) answer(d adapters.Driver, request adapters.Delivery, id, value string) {
	p := adapters.Publication{
		To:         adapters.Endpoint{Kind: adapters.Reply, Name: request.ReplyTo},
		Properties: adapters.Properties{ContentType: patterns.JSON{}.ContentType(), CorrelationID: id},
	}
	msg := message.NewMessage(fmt.Sprint("answer-", answers.Add(1)), fmt.Appendf(nil, "%q", value))
	t.must(d.Publish(t.soon(), p, msg), "answering")
}

// dropped checks that a bus comes to have dropped n answers, and no more.
func (t *trial) dropped(b *patterns.Bus, n uint64) {
	t.await("all answers that nobody waits for are counted", func() bool { return b.Stats().LateReplies >= n })
	same(t, []uint64{b.Stats().LateReplies}, []uint64{n}, "answers dropped")
}

// answered checks that calls go on as before.
func (t *trial) answered(b *patterns.Bus, server adapters.Driver, requests adapters.Subscription, name string) {
	got := call(t, t.ctx, b, name, "next")
	r := t.receive(requests)
	t.answer(server, r, r.CorrelationID, "fine")
	t.settle(r, adapters.Ack)
	same(t, []answer{wait(t, got, "an answer")}, []answer{{"fine", nil}}, "the next call")
}
