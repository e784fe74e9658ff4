package patterns_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A call that was acknowledged on receipt is not delivered again when its session is lost: its
// answer is sent, if there is a way.
func TestOnSettleOfACallInALostSession(t *testing.T) {
	for name, c := range map[string]struct {
		opts []patterns.ServeOption
		want string
		runs int
	}{
		"acknowledged after it": {want: "1 acknowledged, 1 stale", runs: 2},
		"AckOnReceive":          {opts: []patterns.ServeOption{patterns.AckOnReceive()}, want: "1 acknowledged", runs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var seen settlements
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				runs := 0
				client := broker.Connect()
				server := patterns.New(client)
				opts := append(c.opts, patterns.OnSettle(seen.note))
				_, err := patterns.NewRPC[int, int](server, "f").Serve(t.Context(), func(_ context.Context, n int) (int, error) {
					runs++
					_, err := patterns.NewRPC[int, int](bus, "f").Serve(t.Context(), func(_ context.Context, n int) (int, error) { runs++; return n, nil }, opts...)
					must(t, err)
					client.Cut()
					return n, nil
				}, opts...)
				must(t, err)
				must(t, second(patterns.NewRPC[int, int](bus, "f").Call(t.Context(), 1)))
				synctest.Wait()
				slices.Sort(seen.lines) // each server has a goroutine of its own
				if seen.String() != c.want || runs != c.runs {
					t.Errorf("%s, in %d runs", &seen, runs)
				}
				must(t, server.Close(t.Context()))
			})
		})
	}
}
