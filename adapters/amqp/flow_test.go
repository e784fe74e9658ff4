package amqp

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
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

// TestMaxAgeAndWorkersBetween: a message that says that it is old becomes a dead letter, and is
// handled once it is redriven; and there are as many workers as messages that wait, up to the most.
func TestMaxAgeAndWorkersBetween(t *testing.T) {
	v := amqptest.Shared(t)
	for _, queueType := range []QueueType{Quorum, Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			d := connectTo(t, v.URL, func(c *Config) { c.QueueType = queueType })
			bus := patterns.New(d)
			orders := patterns.NewWorkQueue[string](bus, unique(t)+string(queueType))
			if err := orders.Declare(soon(t)); err != nil {
				t.Fatal(err)
			}
			const most = 8
			var busy sync.WaitGroup
			busy.Add(most)
			handled := make(chan string, most)
			sub, err := orders.Work(soon(t), func(_ context.Context, id string) error {
				if id != "old" { // and waits until as many are in hand as can be
					busy.Done()
					busy.Wait()
				}
				handled <- id
				return nil
			}, patterns.MaxAge(time.Hour), patterns.WorkersBetween(1, most))
			if err != nil {
				t.Fatal(err)
			}
			p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: orders.Name()}}
			p.ContentType, p.Timestamp = "application/json", time.Now().Add(-2*time.Hour)
			if err := d.Publish(soon(t), p, message.NewMessage("old", []byte(`"old"`))); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is given up", func() bool { return bus.Stats().DeadLettered == 1 })
			if n, err := orders.Dead().Redrive(soon(t)); n != 1 || err != nil {
				t.Fatalf("%d redriven, %v", n, err)
			}
			if id := <-handled; id != "old" {
				t.Errorf("handled %q", id)
			}
			for i := range most {
				if err := orders.Send(soon(t), fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			for range most {
				<-handled
			}
			if h := bus.Health(); len(h.Subscriptions) != 1 || h.Subscriptions[0].Workers != most {
				t.Errorf("%+v", h.Subscriptions)
			}
			if err := sub.Stop(soon(t)); err != nil {
				t.Error(err)
			}
		})
	}
}
