package amqp

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// notes are what a driver says.
type notes struct {
	mu     sync.Mutex
	events []Event
	log    strings.Builder
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func (n *notes) note(c *Config) {
	c.OnEvent = func(e Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, e)
	}
	c.Logger = slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// connected returns how many consume connections there were, and what was said until the last one.
func (n *notes) connected() (generation uint64, said string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Role == "consume" && e.Kind == Connected {
			generation = e.Generation
		}
	}
	return generation, n.log.String()
}

// TestFirstConsumer: the first consumer of a process that finds its queue not working, as a new one
// is, costs its connection, and nobody hears of that.
func TestFirstConsumer(t *testing.T) {
	v := amqptest.Shared(t)
	declare(t, connectTo(t, v.URL), fromQueue("q", 1))
	if err := v.StopQueue(soon(t), "q"); err != nil {
		t.Fatal(err)
	}
	var said notes
	d := connectTo(t, v.URL, said.note)
	subscribed := make(chan error, 1)
	go func() {
		_, err := d.Subscribe(soon(t), fromQueue("q", 1))
		subscribed <- err
	}()
	eventually(t, "it connects again", func() bool {
		n, warned := said.connected()
		if n == 1 && warned != "" {
			t.Fatalf("of the first connection: %s", warned)
		}
		return n > 1
	})
	if err := v.StartQueue(soon(t), "q"); err != nil {
		t.Fatal(err)
	}
	if err := <-subscribed; err != nil {
		t.Error(err)
	}
}

// TestFirstConsumersOfANewQueue: processes that begin together, with a queue that none of them has
// made before, hear nothing of each other.
func TestFirstConsumersOfANewQueue(t *testing.T) {
	url := amqptest.URL(t)
	again := 0
	for range 8 {
		name, begin := unique(t), make(chan struct{})
		var all sync.WaitGroup
		clients := make([]notes, 6)
		for i := range clients {
			d := connectTo(t, url, clients[i].note)
			all.Go(func() {
				<-begin
				if _, err := d.Subscribe(soon(t), fromQueue(name, 1)); err != nil {
					t.Error(err)
				}
				if n := len(d.Health().Connections); n != 2 {
					t.Errorf("it has %d connections", n)
				}
			})
		}
		close(begin)
		all.Wait()
		for i := range clients {
			n, warned := clients[i].connected()
			if warned != "" {
				t.Error(warned)
			}
			again += int(n) - 1
		}
	}
	t.Logf("%d connections were made again", again)
}

// TestWithTheFirstConsumer: what a connection carries is not lost for a consumer that comes early.
func TestWithTheFirstConsumer(t *testing.T) {
	fresh := func() *connection {
		return &connection{supervisor: &supervisor{driver: &Driver{}}, generation: 1, ctx: context.Background()}
	}
	synctest.Test(t, func(t *testing.T) {
		conn := fresh()
		if !conn.claimFirstConsumer(fromQueue("q", 1)) || conn.claimFirstConsumer(fromQueue("q", 1)) {
			t.Fatal("not one consumer is the first")
		}
		carried := false
		go func() {
			conn.carry()
			carried = true
		}()
		synctest.Wait()
		if carried {
			t.Error("carried beside a consumer that may cost the connection")
		}
		conn.endFirstConsumer(nil)
		synctest.Wait()
		if !carried {
			t.Error("nothing is carried after it")
		}
	})
	for name, other := range map[string]func(*connection, *adapters.Source){
		"a connection that carries something": func(c *connection, _ *adapters.Source) { c.carry() },
		"a connection that was lost before":   func(c *connection, _ *adapters.Source) { c.generation = 2 },
		"a group":                             func(_ *connection, s *adapters.Source) { s.Kind, s.Group = adapters.Fanout, "g" },
		"a classic queue":                     func(_ *connection, s *adapters.Source) { s.Queue.AutoDelete = true },
		"a queue of somebody else's":          func(_ *connection, s *adapters.Source) { s.Passive = true },
	} {
		conn, src := fresh(), fromQueue("q", 1)
		other(conn, &src)
		if conn.claimFirstConsumer(src) {
			t.Errorf("%s: need not wait", name)
		}
	}
}
