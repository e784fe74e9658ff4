package patterns_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// The answer would go to an address that is no more: waiting for the deadline
// would be in vain.
func TestCallerThatLosesItsSessionFailsFast(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		callers := broker.Connect()
		away := patterns.New(callers)
		defer away.Close(t.Context())
		var cancelled time.Duration
		start := time.Now()
		_, err := patterns.NewRPC[int, int](bus, "slow").Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			if n == 0 {
				return 0, nil
			}
			<-ctx.Done()
			cancelled = time.Since(start)
			return 0, ctx.Err()
		})
		must(t, err)
		rpc := patterns.NewRPC[int, int](away, "slow")
		result := make(chan error, 1)
		go func() { result <- second(rpc.Call(t.Context(), 1)) }()
		synctest.Wait()
		callers.Cut()
		wantErr(t, "Call", <-result, adapters.ErrSessionLost)
		synctest.Wait()
		if d := time.Since(start); d > 2*time.Second || cancelled != d {
			t.Errorf("failed after %v, the server knew after %v", d, cancelled)
		}
		must(t, second(rpc.Call(t.Context(), 0))) // in the new session
	})
}

// endingDriver can end its reply subscriptions.
type endingDriver struct {
	*memory.Client
	replies []adapters.Subscription
}

func (d *endingDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := d.Client.Subscribe(ctx, s)
	if s.Kind == adapters.Reply {
		d.replies = append(d.replies, sub)
	}
	return sub, err
}

func TestReplyAddressThatEndsIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		d := &endingDriver{Client: broker.Connect()}
		bus := patterns.New(d)
		rpc := patterns.NewRPC[int, int](bus, "double")
		_, err := rpc.Serve(t.Context(), double)
		must(t, err)
		for range 3 {
			must(t, second(rpc.Call(t.Context(), 1)))
		}
		if len(d.replies) != 1 {
			t.Fatalf("%d reply addresses", len(d.replies))
		}
		must(t, d.replies[0].Stop())
		synctest.Wait()
		must(t, second(rpc.Call(t.Context(), 1)))
		if len(d.replies) != 2 {
			t.Errorf("%d reply addresses", len(d.replies))
		}
		must(t, bus.Close(t.Context()))
	})
}

// A request may be delivered again while it still runs. When the first run is
// over the second must still hear that the caller gave up.
func TestCancelReachesARedeliveredCall(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		var ended []int
		release := make(chan struct{})
		_, err := patterns.NewRPC[int, int](bus, "f").Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			select {
			case <-release:
				release = nil
			case <-ctx.Done():
				ended = append(ended, n)
			}
			return n, nil
		}, patterns.Workers(2))
		must(t, err)
		request := adapters.Properties{CorrelationID: "same"}
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, request, "1")
		synctest.Wait()
		first := release
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, request, "2")
		synctest.Wait()
		first <- struct{}{} // to either
		synctest.Wait()
		publishRaw(t, bus, adapters.Endpoint{Kind: adapters.Fanout, Name: "f.cancel"}, request, "")
		synctest.Wait()
		if len(ended) != 1 {
			t.Errorf("cancelled: %v", ended)
		}
	})
}

func TestMiddlewareOfAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		serve := func(name string, mw message.HandlerMiddleware) *patterns.RPC[int, int] {
			rpc := patterns.NewRPC[int, int](bus, name)
			must(t, second(rpc.Serve(t.Context(), double, patterns.WithMiddleware(mw))))
			return rpc
		}
		answers := func(out ...*message.Message) message.HandlerMiddleware {
			return func(message.HandlerFunc) message.HandlerFunc {
				return func(*message.Message) ([]*message.Message, error) { return out, nil }
			}
		}
		if n, err := serve("headers", middleware.CorrelationID).Call(t.Context(), 1); n != 2 || err != nil {
			t.Errorf("a middleware that sets headers: %d, %v", n, err)
		}
		for name, mw := range map[string]message.HandlerMiddleware{
			"none": answers(), "nil": answers(nil), "two": answers(&message.Message{}, &message.Message{}),
		} {
			_, err := serve(name, mw).Call(t.Context(), 1)
			if remote, ok := errors.AsType[*patterns.RemoteError](err); !ok || remote.Code != patterns.CodeInternal {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestRequestThatIsTooLargeIsABadRequest(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		away := patterns.New(broker.Connect())
		defer away.Close(t.Context())
		_, err := patterns.NewRPC[string, string](bus, "f").Serve(t.Context(), func(_ context.Context, s string) (string, error) { return s, nil })
		must(t, err)
		_, err = patterns.NewRPC[string, string](away, "f").Call(t.Context(), strings.Repeat("x", 200))
		if remote, ok := errors.AsType[*patterns.RemoteError](err); !ok || remote.Code != patterns.CodeBadRequest {
			t.Errorf("got %v", err)
		}
	}, patterns.MaxPayload(100))
}

func TestFaultsAroundACall(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "f")
		var gone int
		_, err := rpc.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			if n == 1 {
				<-ctx.Done()
				gone++
			}
			return n, ctx.Err()
		})
		must(t, err)

		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "f", Delay: time.Second, Do: memory.DropConfirm, Times: 1})
		wantErr(t, "an unconfirmed request", second(rpc.Call(t.Context(), 1)), adapters.ErrUnconfirmed)
		synctest.Wait()
		if gone != 1 {
			t.Error("the server was not told")
		}
		broker.Inject(memory.Fault{On: memory.OnSettle, Name: "f", Do: memory.Refuse, Times: 3})
		must(t, second(rpc.Call(t.Context(), 2)))
		must(t, second(rpc.Call(t.Context(), 2))) // the one worker is there again

		// The answer finds no way: its address is the only reply one.
		var address string
		raw, err := bus.Driver().Subscribe(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
		must(t, err)
		address = raw.Address()
		must(t, raw.Stop())
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{ReplyTo: address, CorrelationID: "x"}, "2")
		synctest.Wait()
		if n := bus.Stats().LostReplies; n > 1 {
			t.Errorf("%d lost replies", n)
		}
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: address, Do: memory.Refuse, Times: 1})
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{ReplyTo: address, CorrelationID: "x"}, "2")
		synctest.Wait()
		if n := bus.Stats().LostReplies; n == 0 {
			t.Error("a refused answer was not counted")
		}
	})
}

func TestCallsBeyondMaxCallsWaitForTheirTurn(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "slow")
		_, err := rpc.Serve(t.Context(), func(_ context.Context, n int) (int, error) { time.Sleep(time.Second); return n, nil }, patterns.Workers(10))
		must(t, err)
		start := time.Now()
		done := make(chan time.Duration, 3)
		for range 3 {
			go func() {
				if _, err := rpc.Call(t.Context(), 1); err != nil {
					t.Error(err)
				}
				done <- time.Since(start)
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		wantErr(t, "no place in time", second(rpc.Call(ctx, 1)), context.DeadlineExceeded)
		if a, b, c := <-done, <-done, <-done; a != time.Second || b != time.Second || c != 2*time.Second {
			t.Errorf("ended after %v, %v, %v", a, b, c)
		}
	}, patterns.MaxCalls(2))
}

// narrowDriver says that it takes everything, and does not.
type narrowDriver struct{ *memory.Client }

func (d narrowDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if len(m.Payload) > 100 {
		done(adapters.ErrTooLarge)
		return nil
	}
	return d.Client.PublishAsync(ctx, p, m, done)
}

// Only the broker knew that the reply is too large. The caller need not wait for its deadline.
func TestCallerIsToldThatTheBrokerFindsItsAnswerTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		server := patterns.New(narrowDriver{broker.Connect()})
		defer server.Close(t.Context())
		_, err := patterns.NewRPC[int, string](server, "f").Serve(t.Context(), func(_ context.Context, n int) (string, error) {
			return strings.Repeat("x", n), nil
		})
		must(t, err)
		start := time.Now()
		rpc := patterns.NewRPC[int, string](bus, "f")
		err = second(rpc.Call(t.Context(), 1000))
		if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodeTooLarge || time.Since(start) > 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		must(t, second(rpc.Call(t.Context(), 1)))
		if s := server.Stats(); s.LostReplies != 0 {
			t.Errorf("%+v", s)
		}
	})
}
