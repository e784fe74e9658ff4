package amqp

import (
	"fmt"
	"sync"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// TestDeclareAtOnce: a driver's senders and workers begin with a new queue at
// the same time. RabbitMQ (3.10) tells the second to declare a quorum queue that it
// exists when it does not work yet: who consumes it then loses its connection, and who publishes is
// refused.
func TestDeclareAtOnce(t *testing.T) {
	t.Parallel() // it waits most of the time
	var mu sync.Mutex
	var lost []Event
	d := connect(t, func(c *Config) {
		c.OnEvent = func(e Event) {
			if e.Kind == Lost {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, e)
			}
		}
	})
	for round := range 10 {
		q := unique(t)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if i%2 == 0 {
					sub, err := d.Subscribe(soon(t), fromQueue(q, 1))
					if err != nil {
						t.Errorf("Subscribe: %v", err)
						return
					}
					_ = sub.Stop()
					return
				}
				if err := d.Declare(soon(t), adapters.Source{Endpoint: queueAt(q)}); err != nil {
					t.Errorf("Declare: %v", err)
				}
				if err := d.Publish(soon(t), mandatory(q), msg(fmt.Sprint(round, i))); err != nil {
					t.Errorf("Publish: %v", err)
				}
			})
		}
		all.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, e := range lost {
		t.Errorf("the %s connection was lost: %v", e.Role, e.Err)
	}
}
