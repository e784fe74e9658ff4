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
		Rule:  "However many calls are under way at once, each is run once and its caller gets its own reply.",
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
						wrong = append(wrong, fmt.Sprintf("call %d returned %d, %v", i, got, err))
					}
				})
			}
			calling.Wait()
			if len(wrong) > 0 {
				t.errorf("%d of %d calls went wrong; %s", len(wrong), calls, wrong[0])
			}
			same(t, []int64{ran.Load()}, []int64{calls}, "how often the function ran")
			for _, b := range callers {
				same(t, []uint64{b.Stats().LateReplies}, []uint64{0}, "replies that nobody waited for")
			}
		},
	},
	{
		ID:    "rpc/deadline",
		Rule:  "The function's ctx has the time that its caller has left, and ends with it.",
		Needs: rpcNeeds,
		run: func(t *trial) {
			name, began, ended := t.name("slow"), make(chan struct{}, 1), make(chan error, 1)
			serve(t, t.bus(), name, func(ctx context.Context, wait bool) (time.Duration, error) {
				if wait {
					began <- struct{}{}
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
			for given, running := 300*time.Millisecond, false; !running; given *= 2 { // until there was time to begin
				ctx, cancel := context.WithTimeout(t.ctx, given)
				_, err = rpc.Call(ctx, true)
				cancel()
				t.is(err, context.DeadlineExceeded, "calling a function that takes longer")
				select {
				case <-began:
					running = true
				default:
				}
			}
			_ = wait(t, ended, "the function's ctx ends")
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
			}, patterns.Workers(1))
			b := t.bus()
			first := call(t, t.ctx, b, name, "first")
			wait(t, began, "the first call runs")
			// Nobody cancels this one: it is up to the broker.
			p := to(queue(name, 1))
			p.TTL, p.ContentType, p.Mandatory = 100*time.Millisecond, patterns.JSON{}.ContentType(), true
			t.must(t.connect().Publish(t.soon(), p, message.NewMessage("expired", []byte(`"expired"`))), "publishing a request")
			t.pass(300 * time.Millisecond)
			close(release)
			same(t, []reply{wait(t, first, "the first reply")}, []reply{{"first", nil}}, "the first reply")
			same(t, []reply{wait(t, call(t, t.ctx, b, name, "last"), "the last reply")}, []reply{{"last", nil}}, "the last reply")
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
			same(t, []reply{wait(t, staying, "the other's reply")}, []reply{{"staying", nil}}, "the other call")
		},
	},
	{
		ID:    "rpc/remote-error",
		Rule:  "An error that the function returns reaches the caller as a RemoteError with its code, and its text where the server exposes it, in which errors.Is finds the error that has the code.",
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
			}, patterns.ExposeErrors())
			b := t.bus(code)
			for request, want := range map[string]patterns.RemoteError{
				"known":    {Code: "no-dish", Message: "the kitchen says: no such dish"},
				"rejected": {Code: patterns.CodeRejected, Message: "not this one"},
				"unknown":  {Code: patterns.CodeInternal, Message: "the kitchen is on fire"},
			} {
				err := wait(t, call(t, t.ctx, b, name, request), "a reply").err
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
				t.errorf("a request that does not decode returned %v", err)
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
			}, patterns.ExposeErrors())
			b := t.bus()
			err := wait(t, call(t, t.ctx, b, name, "panic"), "a reply").err
			if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodePanic || !strings.Contains(got.Message, "out of basil") {
				t.errorf("the error is %v", err)
			}
			same(t, []reply{wait(t, call(t, t.ctx, b, name, "fine"), "a reply")}, []reply{{"fine", nil}}, "the next call")
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
			same(t, []reply{wait(t, call(t, t.ctx, b, name, "x"), "a reply")}, []reply{{"x", nil}}, "the reply of a server")
			t.must(sub.Stop(t.soon()), "stopping the server")
			given := time.Second
			t.await("calls fail with ErrNoServer after the last server has gone", func() bool {
				ctx, cancel := context.WithTimeout(t.ctx, given)
				defer cancel()
				given *= 2 // which a busy broker may need
				_, err := rpc.Call(ctx, "x")
				return errors.Is(err, patterns.ErrNoServer)
			})
		},
	},
	{
		ID:    "rpc/server-dies",
		Rule:  "When a server dies in the middle of a call another one handles it, and where there is none the caller gets an error by its deadline.",
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
			same(t, []reply{wait(t, saved, "the other server's reply")}, []reply{{"saved", nil}}, "the call whose server died")

			die, began = dying()
			t.must(sub.Stop(t.soon()), "stopping the other server")
			var lost <-chan reply
			for given, running := time.Second, false; !running; given *= 2 { // until there was time to begin
				ctx, cancel := context.WithTimeout(t.ctx, given)
				defer cancel()
				lost = call(t, ctx, b, name, "lost")
				select {
				case <-began:
					running = true
				case got := <-lost:
					t.is(got.err, context.DeadlineExceeded, "a call that had no time to begin")
				}
			}
			die()
			if got := wait(t, lost, "the caller hears of it"); got.err == nil {
				t.errorf("a call whose only server died returned %q", got.value)
			}
		},
	},
}

// serve serves a function until the case is over.
func serve[Req, Resp any](t *trial, b *patterns.Bus, name string, f func(context.Context, Req) (Resp, error), opts ...patterns.ServeOption) *patterns.Subscription {
	sub, err := patterns.NewRPC[Req, Resp](b, name).Serve(context.WithoutCancel(t.ctx), f, opts...)
	t.must(err, "serving")
	return sub
}

// reply is what a call returned.
type reply struct {
	value string
	err   error
}

// call makes a call, and returns where its reply comes.
func call(t *trial, ctx context.Context, b *patterns.Bus, name, request string) <-chan reply {
	got := make(chan reply, 1)
	t.spawn(func() {
		value, err := patterns.NewRPC[string, string](b, name).Call(ctx, request)
		got <- reply{value, err}
	})
	return got
}
