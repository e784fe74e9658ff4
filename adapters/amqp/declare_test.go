package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

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

// TestFewDeclareAtATime: a queue waits for its turn, as long as ctx allows, so that each of many
// does not take as long as all of them.
func TestFewDeclareAtATime(t *testing.T) {
	t.Parallel()
	d := connect(t)
	conn, err := d.publisher.connection(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for range mostDeclaring {
		conn.declareSlots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(soon(t))
	src := adapters.Source{Endpoint: queueAt(unique(t))}
	done := make(chan error, 1)
	go func() { done <- d.Declare(ctx, src) }()
	eventually(t, "its channel is open", func() bool { return len(conn.controlSlots) == 1 })
	for range 50 { // what the broker answers meanwhile
		if _, err := d.Inspect(soon(t), src.Name); !errors.Is(err, adapters.ErrNotFound) {
			t.Fatalf("Inspect, while it waits: %v", err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Declare, while others are declared: %v", err)
	}
	for range mostDeclaring {
		<-conn.declareSlots
	}
	if err := d.Declare(soon(t), src); err != nil {
		t.Errorf("Declare, when they are: %v", err)
	}
}

// TestNewGroupsSettleTogether: while new queues of groups settle, they hold no channel that others
// could declare on. When the first is bound, more of them exist than there are channels.
func TestNewGroupsSettleTogether(t *testing.T) {
	t.Parallel() // it waits most of the time
	const groups = 24
	d := connect(t)
	d.declareTook.Store(int64(time.Minute))    // so that they settle for long
	d.checker.rest = time.Now().Add(time.Hour) // and nobody asks whether they work
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}
	var all sync.WaitGroup
	first := sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if n, channels := len(d.specs), controlChannels(int(d.channelMax.Load())); n <= channels {
			t.Errorf("the first was bound when %d of %d queues were there, with %d channels", n, groups, channels)
		}
	})
	for i := range groups {
		all.Go(func() {
			if err := d.Declare(soon(t), adapters.Source{Endpoint: x, Group: fmt.Sprint(i)}); err != nil {
				t.Errorf("Declare: %v", err)
			}
			first()
		})
	}
	all.Wait()
	if err := d.Publish(soon(t), adapters.Publication{To: x, Mandatory: true}, msg("news")); err != nil {
		t.Errorf("Publish: %v", err)
	}
	for i := range groups {
		if q, err := d.Inspect(soon(t), x.Name+":"+fmt.Sprint(i)); err != nil || q.Ready != 1 {
			t.Errorf("group %d has %d messages: %v", i, q.Ready, err)
		}
	}
}
