package amqp

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// A subscription is paused, resumed, and given more and fewer workers: while it is paused the
// broker has all that is not in hand, and nothing is lost or done twice.
func TestPauseAndSetWorkers(t *testing.T) {
	v := amqptest.Shared(t)
	for _, queueType := range []QueueType{Quorum, Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			d := connectTo(t, v.URL, func(c *Config) { c.QueueType = queueType })
			orders := patterns.NewWorkQueue[string](patterns.New(d), unique(t))
			var mu sync.Mutex
			seen := map[string]int{}
			count := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(seen)
			}
			sub, err := orders.Work(soon(t), func(_ context.Context, id string) error {
				mu.Lock()
				defer mu.Unlock()
				seen[id]++
				return nil
			}, patterns.Workers(2), patterns.Prefetch(8))
			if err != nil {
				t.Fatal(err)
			}
			const n, rounds = 400, 4
			for round := range rounds {
				for i := range n / rounds {
					if _, err := orders.SendAsync(soon(t), fmt.Sprintf("%d.%d", round, i)); err != nil {
						t.Fatal(err)
					}
				}
				if err := sub.Pause(soon(t)); err != nil {
					t.Fatal(err)
				}
				handled := count()
				if err := sub.SetWorkers(1 + 2*round); err != nil {
					t.Fatal(err)
				}
				if err := orders.Send(soon(t), fmt.Sprint("last of ", round)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the rest is back in the queue", func() bool {
					info, err := d.Inspect(soon(t), orders.Name())
					return err == nil && info.Ready+handled == (round+1)*(n/rounds+1) && info.Consumers == 0
				})
				if count() != handled {
					t.Errorf("%d were handled while paused", count()-handled)
				}
				sub.Resume()
				eventually(t, "the rest is handled", func() bool { return count() == (round+1)*(n/rounds+1) })
			}
			if err := sub.Stop(soon(t)); err != nil {
				t.Error(err)
			}
			for id, times := range seen {
				if times != 1 {
					t.Errorf("%s was handled %d times", id, times)
				}
			}
		})
	}
}
