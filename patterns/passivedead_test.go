package patterns_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A queue of dead letters that is used as it stands keeps what fails in it, too: nobody else would.
func TestPassiveDeadLettersStay(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		must(t, patterns.NewWorkQueue[order](bus, "orders").Declare(t.Context()))
		text := patterns.NewWorkQueue[string](bus, "orders.dead", patterns.Passive())
		must(t, text.Send(t.Context(), "no order"))
		q := patterns.NewWorkQueue[order](bus, "orders.dead", patterns.Passive())
		_, err := q.TryGet(t.Context())
		wantErr(t, "TryGet", err, patterns.ErrCodec)
		sub, err := q.Work(t.Context(), func(context.Context, order) error { return errKitchen })
		must(t, err)
		time.Sleep(time.Hour)
		must(t, sub.Stop(t.Context()))
		time.Sleep(time.Hour) // it may wait for its next try
		synctest.Wait()
		if info, _ := broker.Queue("orders.dead"); info.Ready != 1 || bus.Stats().Dropped != 0 {
			t.Errorf("%+v, %+v", info, bus.Stats())
		}
	})
}
