package amqp_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestRefusedReply: a reply that is larger than the broker takes is the error of its caller, and
// no other call's business.
func TestRefusedReply(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"max_message_size": "10000"}})
	server, client := busAt(t, n.URL), busAt(t, n.URL)
	_, err := patterns.NewRPC[int, string](server, "repeat").Serve(t.Context(), func(_ context.Context, n int) (string, error) {
		return strings.Repeat("x", n), nil
	}, patterns.Workers(8))
	if err != nil {
		t.Fatal(err)
	}
	rpc := patterns.NewRPC[int, string](client, "repeat")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if _, err := rpc.Call(t.Context(), 10); err != nil {
					t.Errorf("another call: %v", err)
				}
			}
		})
	}
	for range 5 {
		_, err := rpc.Call(t.Context(), 20_000)
		if got, ok := errors.AsType[*patterns.RemoteError](err); !ok || got.Code != patterns.CodeTooLarge || !errors.Is(err, adapters.ErrTooLarge) {
			t.Errorf("the call whose reply is too large: %v", err)
		}
	}
	all.Wait()
	if s := server.Stats(); s.LostReplies != 0 {
		t.Errorf("%+v", s)
	}
}

func busAt(t *testing.T, url string) *patterns.Bus {
	t.Helper()
	d, err := adapters.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(d)
	t.Cleanup(func() {
		if err := errors.Join(bus.Close(context.WithoutCancel(t.Context())), d.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	})
	return bus
}
