package amqp

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// idleGets returns the channels that are kept, once there are n.
func idleGets(t *testing.T, d *Driver, n int) []*getChannel {
	t.Helper()
	var kept []*getChannel
	for ctx := soon(t); ctx.Err() == nil; sleep(ctx, 5*time.Millisecond) {
		kept = nil
		d.mu.Lock()
		sups := d.consumers
		d.mu.Unlock()
		for _, sup := range sups {
			if conn := sup.current(); conn != nil {
				conn.mu.Lock()
				kept = append(kept, conn.idleGets...)
				conn.mu.Unlock()
			}
		}
		if len(kept) == n {
			return kept
		}
	}
	t.Fatalf("%d channels are kept, want %d", len(kept), n)
	return nil
}

func takeOne(t *testing.T, d *Driver, s adapters.Source, id string, o adapters.Outcome) {
	t.Helper()
	m, err := d.Get(soon(t), s)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if m.Message.UUID != id {
		t.Errorf("got %s, want %s", m.Message.UUID, id)
	}
	if err := m.Settle(soon(t), o); err != nil {
		t.Errorf("Settle %s: %v", id, err)
	}
}

// The channel of one Get is that of the next, as long as it is good for that.
func TestGetKeepsItsChannel(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q := unique(t)
	src := fromQueue(q, 1)
	if err := d.Declare(soon(t), src); err != nil {
		t.Fatal(err)
	}
	publish(t, d, mandatory(q), ids("m", 8)...)
	takeOne(t, d, src, "m0", adapters.Ack)
	first := idleGets(t, d, 1)[0]
	takeOne(t, d, src, "m1", adapters.Reject)
	if idleGets(t, d, 1)[0] != first {
		t.Error("another channel after a Reject")
	}

	// Requeue waits for the message to be back, by closing the channel.
	takeOne(t, d, src, "m2", adapters.Requeue)
	idleGets(t, d, 0)
	takeOne(t, d, src, "m2", adapters.Ack)

	// Several at a time have several.
	var held []adapters.Delivery
	for range 3 {
		m, err := d.Get(soon(t), src)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, m)
	}
	for _, m := range held {
		if err := m.Settle(soon(t), adapters.Ack); err != nil {
			t.Error(err)
		}
	}
	kept := idleGets(t, d, 3)

	// One that is not used is closed, and its place is free again.
	used := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return kept[0].conn.supervisor.used
	}
	if used() != 3 {
		t.Errorf("%d places for 3 channels", used())
	}
	conn := kept[0].conn
	conn.mu.Lock()
	conn.idleGets[0].idle.Reset(0)
	conn.mu.Unlock()
	idleGets(t, d, 2)
	for ctx := soon(t); used() != 2; sleep(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d places for 2 channels", used())
		}
	}

	// Other properties are another declaration.
	other := src
	other.Queue.MaxLength = 1
	if _, err := d.Get(soon(t), other); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("other properties: %v", err)
	}

	// A deleted queue is declared again.
	if err := v.DeleteQueue(soon(t), q); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(soon(t), src); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("a deleted queue: %v", err)
	}
	publish(t, d, mandatory(q), "again")
	takeOne(t, d, src, "again", adapters.Ack)

	// A lost connection takes its channels with it.
	publish(t, d, mandatory(q), "held")
	m, err := d.Get(soon(t), src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.CloseConnections(soon(t)); err != nil {
		t.Fatal(err)
	}
	<-m.Message.Context().Done()
	if err := m.Settle(soon(t), adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) {
		t.Errorf("settled too late: %v", err)
	}
	takeOne(t, d, src, "held", adapters.Ack)
}

// pass is a gate that is open, for one message at a time, by several workers.
type pass struct{ reserved, released atomic.Int64 }

func (g *pass) Wait(ctx context.Context) (bool, error) { return false, ctx.Err() }
func (g *pass) Fetched()                               { g.reserved.Add(1) }
func (g *pass) Reserve()                               { g.reserved.Add(1) }
func (g *pass) Release()                               { g.released.Add(1) }

// A gated subscription with several workers loses nothing when connections are closed, or when it
// is stopped while messages are on their way; and it does not ask an empty queue all the time.
func TestGatedSubscriptionUnderFaults(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	bus := patterns.New(d)
	defer bus.Close(context.Background())
	q := patterns.NewWorkQueue[int](bus, unique(t))
	const n = 400
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	if err := q.SendBatch(soon(t), numbers); err != nil {
		t.Fatal(err)
	}
	var handled [n]atomic.Int64
	var count atomic.Int64
	some := make(chan struct{}, 10*n)
	work := func(gate patterns.Gate) *patterns.Subscription {
		sub, err := q.Work(soon(t), func(_ context.Context, i int) error {
			if handled[i].Add(1) == 1 {
				count.Add(1)
			}
			some <- struct{}{}
			return nil
		}, patterns.WithGate(gate), patterns.Workers(8))
		if err != nil {
			t.Fatal(err)
		}
		return sub
	}
	gate := new(pass)
	sub := work(gate)
	for range 50 {
		<-some
	}
	if _, err := v.CloseConnections(soon(t)); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		<-some
	}
	if err := sub.Stop(soon(t)); err != nil {
		t.Fatal(err)
	}
	if count.Load() == n {
		t.Log("all was handled before the subscription was stopped")
	}
	gate = new(pass)
	sub = work(gate)
	for ctx := soon(t); count.Load() < n; sleep(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d of %d were handled", count.Load(), n)
		}
	}
	// All eight have found out that there is nothing, and one waits.
	awaitQuiet := func() int64 {
		for last := int64(-1); ; sleep(soon(t), 200*time.Millisecond) {
			now := gate.reserved.Load() + gate.released.Load()
			if now == last {
				return now
			}
			last = now
		}
	}
	before := awaitQuiet()
	sleep(soon(t), time.Second)
	if asked := gate.reserved.Load() + gate.released.Load() - before; asked != 0 {
		t.Errorf("asked an empty queue %d times in a second", asked)
	}
	if err := sub.Stop(soon(t)); err != nil {
		t.Fatal(err)
	}
}

// TestGetPastTheConsumerTimeout: who holds a message that was got for longer than the broker allows
// is told, and the message comes again.
func TestGetPastTheConsumerTimeout(t *testing.T) {
	t.Parallel()
	n := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"consumer_timeout": "5000", "channel_tick_interval": "500"}})
	for _, kind := range []QueueType{Quorum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			cfg, err := ParseURL(n.URL)
			if err != nil {
				t.Fatal(err)
			}
			cfg.QueueType = kind
			var timeouts atomic.Int32
			cfg.OnEvent = func(e Event) {
				if e.Kind == TimedOut {
					timeouts.Add(1)
				}
			}
			d, err := Connect(soon(t), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close(context.Background())
			src := fromQueue("q-"+string(kind), 1)
			declare(t, d, src)
			if kind == Classic && d.publisher.current().version.atLeast(consumerTimeouts) {
				return // classic queues have no timeout there
			}
			publish(t, d, mandatory(src.Name), "m")
			held, err := d.Get(soon(t), src)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-held.Message.Context().Done():
			case <-soon(t).Done():
				t.Fatal("its ctx does not end")
			}
			for _, want := range []error{adapters.ErrConsumerTimeout, adapters.ErrSessionLost} {
				if cause := context.Cause(held.Message.Context()); !errors.Is(cause, want) {
					t.Errorf("its ctx ended for %v, want %v", cause, want)
				}
			}
			for range 2 {
				err := held.Settle(soon(t), adapters.Ack)
				for _, want := range []error{adapters.ErrConsumerTimeout, adapters.ErrStaleDelivery} {
					if !errors.Is(err, want) {
						t.Errorf("settled late: %v, want %v", err, want)
					}
				}
			}
			var again adapters.Delivery
			eventually(t, "it comes again", func() bool {
				again, err = d.Get(soon(t), src)
				if err != nil && !errors.Is(err, adapters.ErrEmpty) {
					t.Fatal(err)
				}
				return err == nil
			})
			if again.Message.UUID != "m" || !again.Redelivered {
				t.Errorf("again came %s, redelivered %t", again.Message.UUID, again.Redelivered)
			}
			if err := again.Settle(soon(t), adapters.Ack); err != nil {
				t.Error(err)
			}
			eventually(t, "one is said", func() bool { return timeouts.Load() == 1 })
			eventually(t, "nothing is in hand", func() bool { return again.Settler.(*fetchedMessage).conn.got.Load() == 0 })
		})
	}
}
