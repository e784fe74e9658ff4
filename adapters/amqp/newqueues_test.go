package amqp

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// TestNewQueues: clients that begin with the same new queues in the same moment, each as if alone,
// notice nothing of each other: no publish is refused, in no way of publishing, and no connection
// is lost; nor does a publisher to an exchange notice new groups. It has the processor to itself:
// how long a new queue needs is estimated.
func TestNewQueues(t *testing.T) {
	const queues, clients = 60, 4
	var lost atomic.Int64
	watched := func(c *Config) {
		c.OnEvent = func(e Event) {
			if e.Kind == Lost && !strings.Contains(fmt.Sprint(e.Err), adapters.ErrClosed.Error()) {
				lost.Add(1)
				t.Log(e.Err)
			}
		}
	}
	drivers := make([]*Driver, clients)
	for i := range drivers {
		drivers[i] = connect(t, watched)
	}
	name := unique(t)
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: name + ".x"}
	busy, stop := connect(t, watched), make(chan struct{})
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := busy.Publish(soon(t), adapters.Publication{To: x}, msg("news")); err != nil {
					t.Errorf("to an exchange with new groups: %v", err)
				}
			}
		}
	})
	for n := range queues {
		var racing sync.WaitGroup
		src := fromQueue(fmt.Sprint(name, n), 10)
		group := adapters.Source{Endpoint: x, Group: fmt.Sprint(n % 10), Prefetch: 1, Queue: adapters.QueueSpec{AutoDelete: false}}
		begin := make(chan struct{})
		for i, d := range drivers {
			racing.Go(func() {
				<-begin
				switch (i + n) % 4 {
				case 0, 1:
					declare(t, d, src)
					got := make(chan error, 1)
					if err := d.PublishAsync(soon(t), mandatory(src.Name), msg("async"), func(err error) { got <- err }); err != nil {
						t.Error(err)
					}
					if err := d.Publish(soon(t), mandatory(src.Name), msg("1"), msg("2")); err != nil {
						t.Errorf("Publish: %v", err)
					}
					if err := <-got; err != nil {
						t.Errorf("PublishAsync: %v", err)
					}
				case 2:
					_ = subscribe(t, d, src).Stop()
				case 3:
					if n < 10 {
						declare(t, d, group)
					} else if m, err := d.Get(soon(t), src); err == nil {
						settle(t, m, adapters.Ack)
					}
				}
			})
		}
		close(begin)
		racing.Wait()
	}
	close(stop)
	publisher.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d connections were lost", n)
	}
}
