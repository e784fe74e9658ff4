package patterns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// What errors and panics of a handler say stays at the server, unless it exposes it; a code's own
// text travels.
func TestCallersGetNoTextThatIsNotForThem(t *testing.T) {
	const secret = "dial db.internal:5432 as admin"
	rows := []struct {
		name    string
		handler func() error
		code    string
		says    string
	}{
		{"error", func() error { return errors.New(secret) }, patterns.CodeInternal, ""},
		{"reject", func() error { return patterns.Reject(errors.New(secret)) }, patterns.CodeRejected, ""},
		{"panic", func() error { panic(secret) }, patterns.CodePanic, ""},
		{"error with a code", func() error { return fmt.Errorf("%s: %w", secret, errKitchen) }, "fire", errKitchen.Error()},
		{"deadline", func() error { return fmt.Errorf("%s: %w", secret, context.DeadlineExceeded) }, patterns.CodeDeadline, context.DeadlineExceeded.Error()},
	}
	for _, r := range rows {
		for _, expose := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, exposed %v", r.name, expose), func(t *testing.T) {
				var log bytes.Buffer
				bus, _ := newBus(t, patterns.WithErrorCode("fire", errKitchen), patterns.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				f := patterns.NewRPC[int, int](bus, "f")
				var opts []patterns.ServeOption
				if expose {
					opts = append(opts, patterns.ExposeErrors())
				}
				must(t, second(f.Serve(bounded(t), func(context.Context, int) (int, error) { return 0, r.handler() }, opts...)))
				err := second(f.Call(bounded(t), 1))
				remote, ok := errors.AsType[*patterns.RemoteError](err)
				if !ok || remote.Code != r.code || strings.Contains(err.Error(), secret) != expose || !expose && remote.Message != r.says {
					t.Errorf("got %v: %+v", err, remote)
				}
				must(t, bus.Close(bounded(t)))
				if !strings.Contains(log.String(), secret) {
					t.Errorf("the server's log does not have it: %s", log.String())
				}
			})
		}
	}
}

// A function that calls itself is answered as deep as there are workers, and the log says why it is
// not beyond.
func TestFunctionThatCallsItself(t *testing.T) {
	for _, depth := range []int{10, 20} {
		t.Run(fmt.Sprint(depth), func(t *testing.T) {
			var log bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				bus := patterns.New(broker.Connect(), patterns.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				f := patterns.NewRPC[int, int](bus, "f")
				must(t, second(f.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
					if n == 0 {
						return 0, nil
					}
					return f.Call(ctx, n-1)
				})))
				err := second(f.Call(t.Context(), depth))
				if (err == nil) != (depth < 16) {
					t.Errorf("%d deep: %v", depth, err)
				}
				must(t, bus.Close(t.Context()))
			})
			if warned := strings.Contains(log.String(), "all workers of a function wait"); warned != (depth >= 16) {
				t.Errorf("%d deep: %s", depth, log.String())
			}
		})
	}
}

// Requests can come from a queue that somebody else declared.
func TestServePassive(t *testing.T) {
	bus, _ := newBus(t)
	f := patterns.NewRPC[int, int](bus, "f")
	twice := func(_ context.Context, n int) (int, error) { return 2 * n, nil }
	wantErr(t, "Serve of a queue that is missing", second(f.Serve(bounded(t), twice, patterns.Passive())), adapters.ErrNotFound)
	theirs := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "f"}, Queue: adapters.QueueSpec{MaxLength: 10}}
	must(t, bus.Driver().Declare(bounded(t), theirs))
	wantErr(t, "Serve of a queue with other properties", second(f.Serve(bounded(t), twice)), adapters.ErrMismatch)
	must(t, second(f.Serve(bounded(t), twice, patterns.Passive())))
	if n, err := f.Call(bounded(t), 21); n != 42 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// An answer that nobody gets is counted, where the broker can tell.
func TestAnswersThatReachNobodyAreCounted(t *testing.T) {
	bus, _ := newBus(t)
	must(t, second(patterns.NewRPC[int, int](bus, "f").Serve(bounded(t), func(_ context.Context, n int) (int, error) { return n, nil })))
	publishRaw(t, bus, adapters.Endpoint{Name: "f"}, adapters.Properties{ReplyTo: "gone", CorrelationID: "x", TTL: time.Minute}, "1")
	for deadline := time.Now().Add(within); bus.Stats().LostReplies != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", bus.Stats())
		}
	}
}
