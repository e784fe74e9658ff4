package kafka

import (
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// TestOrderedIsInspected: of a queue with a single active consumer the consumer group says what is
// settled and what is in hand, and a purge waits until nobody has anything in hand.
func TestOrderedIsInspected(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 3, 6)
	sees := func(ready, unacked, consumers int, ids ...string) {
		t.Helper()
		var info adapters.QueueInfo
		var found []adapters.Delivery
		for ctx.Err() == nil { // what was settled the broker is told a moment later
			var err error
			info, err = d.Inspect(ctx, s.Name)
			must(t, err)
			if info.Ready == ready && info.Unacked == unacked && info.Consumers == consumers {
				found, err = d.Browse(ctx, s.Name, 10)
				must(t, err)
				areIn(t, found, ids...)
				return
			}
		}
		t.Fatalf("sees %+v, want %d ready, %d in hand, %d consumers", info, ready, unacked, consumers)
	}
	sees(6, 0, 0, "m0", "m1", "m2", "m3", "m4", "m5")
	sub := subscribe(ctx, t, d, s)
	held := receiveAll(ctx, t, sub, 3)
	sees(3, 3, 1, "m0", "m1", "m2", "m3", "m4", "m5")
	must(t, held[1].Settle(ctx, adapters.Ack)) // and m3 is delivered
	sees(2, 3, 1, "m0", "m2", "m3", "m4", "m5")
	if _, err := d.Purge(ctx, s.Name); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("purging what is in somebody's hand: %v", err)
	}
	must(t, sub.StopAndReturn())
	sees(5, 0, 0, "m0", "m2", "m3", "m4", "m5")
	if n, err := d.Purge(ctx, s.Name); n != 5 || err != nil {
		t.Errorf("%d of 5 purged, %v", n, err)
	}
	sees(0, 0, 0)
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, numbered(1)...))
	areIn(t, receiveAll(ctx, t, subscribe(ctx, t, d, s), 1), "0")
}
