package patterns_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

var cancels = adapters.Endpoint{Kind: adapters.Fanout, Name: "f.cancel"}

// nobodyListens reports whether cancels of f reach no server.
func nobodyListens(t *testing.T, bus *patterns.Bus) bool {
	t.Helper()
	err := bus.Driver().Publish(t.Context(), adapters.Publication{To: cancels, Mandatory: true}, rawMessage(nil))
	return errors.Is(err, adapters.ErrUnroutable)
}

func TestServerThatEndsListensNoMore(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "f")
		sub, err := rpc.Serve(t.Context(), double)
		must(t, err)
		if nobodyListens(t, bus) {
			t.Error("the server does not listen for cancels")
		}
		must(t, sub.Stop(t.Context()))
		if !nobodyListens(t, bus) {
			t.Error("the server listens on")
		}
		wantErr(t, "Serve", second(rpc.Serve(t.Context(), double, patterns.Prefetch(70000))), adapters.ErrInvalid)
		if !nobodyListens(t, bus) {
			t.Error("a server that could not start listens")
		}
	})
}

func TestServeNeedsNoDelays(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(&lackingDriver{broker.Connect(), adapters.CanDelay})
	rpc := patterns.NewRPC[int, int](bus, "f")
	must(t, second(rpc.Serve(bounded(t), double)))
	must(t, second(rpc.Call(bounded(t), 1)))
	must(t, bus.Close(bounded(t)))
}

// The deadline holds at the server even if nothing reaches it any more, and a
// call that was given up is not answered.
func TestGivingUp(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "f")
		start := time.Now()
		var ended time.Duration
		_, err := rpc.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			<-ctx.Done()
			ended = time.Since(start)
			return n, ctx.Err()
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		wantErr(t, "a call that is given up", second(rpc.Call(ctx, 1)), context.Canceled)
		synctest.Wait()
		if s := bus.Stats(); ended != time.Second || s.LateReplies != 0 || s.LostReplies != 0 {
			t.Errorf("ended after %v, %+v", ended, s)
		}
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "f.cancel", Do: memory.Refuse})
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantErr(t, "a call past its deadline", second(rpc.Call(ctx, 1)), context.DeadlineExceeded)
		synctest.Wait()
		if ended != time.Minute+time.Second {
			t.Errorf("ended after %v", ended)
		}
	})
}

func TestWhatTravelsWithACall(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		driver := bus.Driver()
		address, err := driver.Subscribe(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
		must(t, err)
		_, err = patterns.NewRPC[int, int](bus, "f").Serve(t.Context(), func(context.Context, int) (int, error) {
			return 0, errors.New(strings.Repeat("x", 2000))
		}, patterns.ExposeErrors())
		must(t, err)
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{}, "1") // nobody waits for its reply
		publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{ReplyTo: address.Address(), CorrelationID: "x", TTL: time.Minute}, "1")
		answer, err := address.Receive(t.Context())
		must(t, err)
		if !answer.Transient || answer.TTL != time.Minute || answer.CorrelationID != "x" || len(answer.Message.Metadata[patterns.HeaderError]) != 1024 {
			t.Errorf("answer %+v", answer.Properties)
		}
		if n := bus.Stats().LostReplies; n != 0 {
			t.Errorf("%d answers lost", n)
		}

		requests, err := driver.Subscribe(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Name: "raw"}, Queue: adapters.QueueSpec{AutoDelete: true}, Prefetch: 1})
		must(t, err)
		go func() {
			_, _ = patterns.NewRPC[int, int](bus, "raw").Call(t.Context(), 1, patterns.Header("trace", "abc"))
		}()
		request, err := requests.Receive(t.Context())
		must(t, err)
		if !request.Transient || request.TTL != 30*time.Second || request.ReplyTo == "" || request.Message.Metadata["trace"] != "abc" {
			t.Errorf("request %+v", request.Properties)
		}
	})
}

func TestServeAckOnReceive(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "f")
		runs := 0
		sub, err := rpc.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			runs++
			if info, _ := broker.Queue("f"); info.Unacked != 0 {
				t.Errorf("unacknowledged while it runs: %+v", info)
			}
			if n == 1 {
				<-ctx.Done()
			}
			return n, ctx.Err()
		}, patterns.AckOnReceive(), patterns.DrainTimeout(0))
		must(t, err)
		must(t, second(rpc.Call(t.Context(), 2)))
		result := make(chan error, 1)
		go func() { result <- second(rpc.Call(t.Context(), 1)) }()
		synctest.Wait()
		must(t, sub.Stop(t.Context()))
		if remote, ok := errors.AsType[*patterns.RemoteError](<-result); !ok || remote.Code != patterns.CodeCanceled || runs != 2 {
			t.Errorf("ran %d times, the call that a shutdown interrupted: %v", runs, remote)
		}
	})
}

func TestCallWhoseServerHeedsNothingGoesToAnother(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		rpc := patterns.NewRPC[int, int](bus, "double")
		release := make(chan struct{})
		first, err := rpc.Serve(t.Context(), func(context.Context, int) (int, error) { <-release; return 0, nil }, patterns.DrainTimeout(0))
		must(t, err)
		result := make(chan int, 1)
		go func() {
			n, err := rpc.Call(t.Context(), 21)
			must(t, err)
			result <- n
		}()
		synctest.Wait()
		must(t, second(rpc.Serve(t.Context(), double)))
		wantErr(t, "Stop", first.Stop(t.Context()), patterns.ErrAbandoned)
		if n := <-result; n != 42 {
			t.Errorf("got %d", n)
		}
		close(release)
	})
}

// Calls that wait, for a reply or for a place, end with their bus, and those
// that were given up are told to the servers before.
func TestCloseWhileCallsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		servers, bus := patterns.New(broker.Connect()), patterns.New(broker.Connect(), patterns.MaxCalls(1))
		_, err := patterns.NewRPC[int, int](servers, "f").Serve(t.Context(), func(ctx context.Context, n int) (int, error) { <-ctx.Done(); return n, ctx.Err() })
		must(t, err)
		rpc := patterns.NewRPC[int, int](bus, "f")

		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "f.cancel", Delay: time.Second / 2, Times: 1})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		wantErr(t, "Call", second(rpc.Call(ctx, 1)), context.Canceled)
		result := make(chan error, 2)
		for range 2 {
			go func() { result <- second(rpc.Call(t.Context(), 1)) }()
		}
		synctest.Wait()
		start := time.Now()
		must(t, bus.Close(t.Context()))
		if d := time.Since(start); d != time.Second/2 {
			t.Errorf("closed after %v, although a cancel was on its way", d)
		}
		wantErr(t, "a call that waits", <-result, adapters.ErrClosed)
		wantErr(t, "a call that waits", <-result, adapters.ErrClosed)
		if d := time.Since(start); d != time.Second/2 {
			t.Errorf("they ended after %v", d)
		}
		must(t, servers.Close(t.Context()))
	})
}
