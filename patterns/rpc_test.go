package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

var errNegative = errors.New("negative")

func double(_ context.Context, n int) (int, error) {
	if n < 0 {
		return 0, fmt.Errorf("double(%d): %w", n, errNegative)
	}
	return 2 * n, nil
}

func TestCallsAreCorrelatedUnderConcurrency(t *testing.T) {
	bus, _ := newBus(t, patterns.MaxCalls(64))
	rpc := patterns.NewRPC[int, int](bus, "double")
	var perServer [3]atomic.Int64
	for i := range perServer {
		_, err := rpc.Serve(bounded(t), func(ctx context.Context, n int) (int, error) {
			perServer[i].Add(1)
			return double(ctx, n)
		}, patterns.Workers(4))
		must(t, err)
	}
	var wg sync.WaitGroup
	for n := range 2000 {
		wg.Go(func() {
			if got, err := rpc.Call(bounded(t), n); err != nil || got != 2*n {
				t.Errorf("double(%d) = %d, %v", n, got, err)
			}
		})
	}
	wg.Wait()
	for i := range perServer {
		if perServer[i].Load() == 0 {
			t.Errorf("server %d was never called", i)
		}
	}
	if s := bus.Stats(); s.LateReplies != 0 || s.LostReplies != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestRemoteErrorsAreTyped(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[string, string](bus, "f")
		_, err := rpc.Serve(t.Context(), func(ctx context.Context, what string) (string, error) {
			switch what {
			case "negative":
				return "", fmt.Errorf("wrapped: %w", errNegative)
			case "panic":
				panic("boom")
			case "reject":
				return "", patterns.Reject(errKitchen)
			case "deadline":
				return "", context.DeadlineExceeded
			case "large":
				return strings.Repeat("x", 2000), nil
			case "other":
				return "", errKitchen
			}
			return what, nil
		})
		must(t, err)
		for what, want := range map[string]struct {
			code string
			is   error
		}{
			"negative": {"negative", errNegative},
			"panic":    {patterns.CodePanic, nil},
			"reject":   {patterns.CodeRejected, nil},
			"deadline": {patterns.CodeDeadline, context.DeadlineExceeded},
			"large":    {patterns.CodeTooLarge, adapters.ErrTooLarge},
			"other":    {patterns.CodeInternal, nil},
		} {
			_, err := rpc.Call(t.Context(), what)
			remote, ok := errors.AsType[*patterns.RemoteError](err)
			if !ok || remote.Code != want.code || want.is != nil && !errors.Is(err, want.is) {
				t.Errorf("%s: got %v", what, err)
			}
		}
		_, err = patterns.NewRPC[int, string](bus, "f").Call(t.Context(), 7)
		if remote, ok := errors.AsType[*patterns.RemoteError](err); !ok || remote.Code != patterns.CodeBadRequest {
			t.Errorf("a request of another type: %v", err)
		}
		_, err = patterns.NewRPC[string, int](bus, "f").Call(t.Context(), "text")
		wantErr(t, "a reply of another type", err, patterns.ErrCodec)
	}, patterns.WithErrorCode("negative", errNegative), patterns.MaxPayload(1000))
}

func TestDeadlineAndCancelReachTheServer(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "slow")
		start := time.Now()
		var ended []time.Duration
		_, err := rpc.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			<-ctx.Done()
			ended = append(ended, time.Since(start))
			return n, ctx.Err()
		})
		must(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		wantErr(t, "a call past its deadline", second(rpc.Call(ctx, 1)), context.DeadlineExceeded)

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		wantErr(t, "a call given up", second(rpc.Call(ctx, 1)), context.Canceled)
		synctest.Wait()

		wantErr(t, "a call without a deadline", second(rpc.Call(t.Context(), 1)), context.DeadlineExceeded)
		synctest.Wait()
		if want := fmt.Sprint([]time.Duration{5 * time.Second, 7 * time.Second, 37 * time.Second}); fmt.Sprint(ended) != want {
			t.Errorf("handlers ended at %v, want %v", ended, want)
		}
	})
}

func TestExpiredAndCancelledRequestsAreNotRun(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "slow")
		var ran []int
		_, err := rpc.Serve(t.Context(), func(_ context.Context, n int) (int, error) {
			ran = append(ran, n)
			time.Sleep(10 * time.Second) // heeds nothing
			return n, nil
		}, patterns.Workers(1))
		must(t, err)
		var wg sync.WaitGroup
		call := func(n int, ctx context.Context, want error) {
			wg.Go(func() {
				_, err := rpc.Call(ctx, n)
				wantErr(t, fmt.Sprintf("call %d", n), err, want)
			})
			synctest.Wait()
		}
		call(1, t.Context(), nil)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		call(2, short, context.DeadlineExceeded) // expires in the queue
		given, giveUp := context.WithCancel(t.Context())
		call(3, given, context.Canceled) // cancelled in the queue
		giveUp()
		call(4, t.Context(), nil)
		wg.Wait()
		if fmt.Sprint(ran) != "[1 4]" {
			t.Errorf("ran %v", ran)
		}
	})
}

func TestNoServer(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "double")
		start := time.Now()
		wantErr(t, "nobody serves yet", second(rpc.Call(t.Context(), 1)), patterns.ErrNoServer)
		sub, err := rpc.Serve(t.Context(), double)
		must(t, err)
		must(t, second(rpc.Call(t.Context(), 1)))
		must(t, sub.Stop(t.Context()))
		wantErr(t, "nobody serves any more", second(rpc.Call(t.Context(), 1)), patterns.ErrNoServer)
		if time.Since(start) != 0 {
			t.Errorf("it took %v to say so", time.Since(start))
		}
	})
}

func TestLateAndForeignRepliesAreDroppedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "slow")
		var replyTo string
		raw, err := bus.Driver().Subscribe(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Name: "raw"}, Queue: adapters.QueueSpec{AutoDelete: true}, Prefetch: 1})
		must(t, err)
		go func() { // a server that answers wrongly, twice and late
			d, err := raw.Receive(t.Context())
			if err != nil {
				return
			}
			replyTo = d.ReplyTo
			to := adapters.Endpoint{Kind: adapters.Reply, Name: d.ReplyTo}
			publishRaw(t, bus, to, adapters.Properties{CorrelationID: "guessed"}, "13")
			publishRaw(t, bus, to, adapters.Properties{}, "13")
			publishRaw(t, bus, to, adapters.Properties{CorrelationID: d.CorrelationID}, "42")
			publishRaw(t, bus, to, adapters.Properties{CorrelationID: d.CorrelationID}, "43")
		}()
		got, err := patterns.NewRPC[int, int](bus, "raw").Call(t.Context(), 1)
		if err != nil || got != 42 {
			t.Errorf("got %d, %v", got, err)
		}
		synctest.Wait()
		if n := bus.Stats().LateReplies; n != 3 {
			t.Errorf("%d replies counted that nobody waited for", n)
		}
		_, err = rpc.Serve(t.Context(), func(_ context.Context, n int) (int, error) { time.Sleep(time.Minute); return n, nil })
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "too slow a server", second(rpc.Call(ctx, 1)), context.DeadlineExceeded)
		time.Sleep(2 * time.Minute)
		if n := bus.Stats().LateReplies; n > 4 {
			t.Errorf("%d late replies", n)
		}
		if replyTo == "" {
			t.Error("the request had no reply address")
		}
	})
}

func TestServerShutDownOrLostInMidCall(t *testing.T) {
	for _, how := range []string{"shut down", "cut"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				servers := broker.Connect()
				away := patterns.New(servers)
				defer away.Close(t.Context())
				first, err := patterns.NewRPC[int, int](away, "double").Serve(t.Context(), func(ctx context.Context, _ int) (int, error) {
					<-ctx.Done()
					return 0, ctx.Err()
				}, patterns.DrainTimeout(0))
				must(t, err)
				rpc := patterns.NewRPC[int, int](bus, "double")
				result := make(chan string, 1)
				go func() {
					n, err := rpc.Call(t.Context(), 21)
					result <- fmt.Sprint(n, err)
				}()
				synctest.Wait()
				_, err = rpc.Serve(t.Context(), double)
				must(t, err)
				if how == "cut" {
					go first.Stop(t.Context())
					servers.Cut()
				} else {
					must(t, first.Stop(t.Context()))
				}
				if got := <-result; got != "42<nil>" && got != "42 <nil>" {
					t.Errorf("the call returned %s", got)
				}
			})
		})
	}
}

func TestRequestWithoutReplyAddressIsRun(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		var ran atomic.Int32 // by two workers
		_, err := patterns.NewRPC[int, int](bus, "f").Serve(t.Context(), func(context.Context, int) (int, error) { ran.Add(1); return 0, nil })
		must(t, err)
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{}, "1")
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{ReplyTo: "amq.gone", CorrelationID: "x"}, "1")
		synctest.Wait()
		if info, _ := broker.Queue("f"); ran.Load() != 2 || info.Unacked != 0 {
			t.Errorf("ran %d times, queue %+v", ran.Load(), info)
		}
	})
}
