package patterns_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// batchProcess is process with batches: it dies of one in which the poison is.
func batchProcess(ctx context.Context, t *testing.T, broker *memory.Broker, handled func([]patterns.Delivery), opts ...patterns.BatchOption) (died bool) {
	client := broker.Connect()
	bus := patterns.New(client)
	working, die := context.WithCancel(ctx)
	defer die()
	dead := make(chan struct{})
	sub, err := patterns.NewWorkQueue[string](bus, "jobs").WorkBatch(working, func(ctx context.Context, batch []string) error {
		handled(patterns.DeliveriesFrom(ctx))
		poisoned := slices.Contains(batch, "poison")
		if poisoned {
			die()
			close(dead)
		}
		if poisoned || working.Err() != nil {
			<-ctx.Done()
		}
		return ctx.Err()
	}, opts...)
	must(t, err)
	select {
	case <-dead:
		died = true
		synctest.Wait()
		client.Cut() // after which nothing is delivered to it
	case <-ctx.Done():
	}
	must(t, sub.Stop(context.Background()))
	must(t, bus.Close(context.Background()))
	return died
}

// What kills its process again and again is handled alone, and given up; the rest of its batch is
// not.
func TestBatchWithPoison(t *testing.T) {
	for _, workers := range []int{1, 3} {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			bus := patterns.New(broker.Connect())
			defer bus.Close(t.Context())
			jobs := patterns.NewWorkQueue[string](bus, "jobs")
			ids := []string{"a", "b", "poison", "c", "d", "e", "f", "g", "h", "i"}
			for _, id := range ids {
				must(t, jobs.Send(t.Context(), id, patterns.MessageID(id)))
			}
			living, kill := context.WithCancel(t.Context())
			defer kill()
			var mu sync.Mutex
			deaths := 0
			handled := map[string]bool{}
			note := func(batch []patterns.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				for _, d := range batch {
					if d.Lost >= 2 && len(batch) > 1 {
						t.Errorf("%q, suspected after %d losses, is in a batch of %d", d.ID, d.Lost, len(batch))
					}
					if d.ID == "poison" {
						deaths++
					}
					handled[d.ID] = true
				}
			}
			var supervisor sync.WaitGroup
			supervisor.Go(func() {
				for batchProcess(living, t, broker, note, patterns.BatchSize(4), patterns.Workers(workers)) {
				}
			})
			time.Sleep(time.Hour)
			kill()
			supervisor.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(handled) != len(ids) || deaths != 5 {
				t.Errorf("%d of %d messages were handled, and the poison %d times, want all and 5", len(handled), len(ids), deaths)
			}
			letter, err := jobs.Dead().TryGet(t.Context())
			must(t, err)
			if letter.ID != "poison" {
				t.Errorf("%q was given up", letter.ID)
			}
			must(t, letter.Ack(t.Context()))
			if n := depth(t, bus, "jobs") + depth(t, bus, "jobs.dead"); n != 0 {
				t.Errorf("%d messages are left", n)
			}
		})
	}
}
