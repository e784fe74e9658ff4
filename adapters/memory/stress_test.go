package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ledger counts how often each message was acknowledged for good.
type ledger struct {
	mu    sync.Mutex
	acked map[string]int
	left  atomic.Int64
	done  chan struct{} // closed when everything is acknowledged
}

func newLedger(n int) *ledger {
	l := &ledger{acked: make(map[string]int), done: make(chan struct{})}
	l.left.Store(int64(n))
	return l
}

// work receives from sub until that ends, and does with each message what fate says.
func (l *ledger) work(sub adapters.Subscription, fate func() adapters.Outcome) {
	for {
		d, err := sub.Receive(ctx)
		if err != nil {
			return
		}
		outcome := fate()
		if err := d.Settle(ctx, outcome); err != nil || outcome != adapters.Ack {
			continue
		}
		l.mu.Lock()
		l.acked[d.Message.UUID]++
		l.mu.Unlock()
		if l.left.Add(-1) == 0 {
			close(l.done)
		}
	}
}

// check waits until all is acknowledged, and that it was once.
func (l *ledger) check(t *testing.T, n int) {
	t.Helper()
	select {
	case <-l.done:
	case <-time.After(time.Minute):
		t.Fatalf("%d of %d messages were lost", l.left.Load(), n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.acked) != n {
		t.Errorf("%d different messages, want %d", len(l.acked), n)
	}
	for id, times := range l.acked {
		if times != 1 {
			t.Errorf("%s was acknowledged %d times", id, times)
		}
	}
}

func TestStressThousandPublishers(t *testing.T) {
	const publishers, each, workers = 1000, 10, 8
	b, c := connect(t)
	l := newLedger(publishers * each)
	var wg sync.WaitGroup
	sub := subscribe(t, c, fromQueue("q", 16))
	for range workers {
		wg.Go(func() { l.work(sub, func() adapters.Outcome { return adapters.Ack }) })
	}
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := c.Publish(ctx, toQueue("q"), msg(fmt.Sprintf("%d/%d", p, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	l.check(t, publishers*each)
	wantQueue(t, b, "q", 0, 0, 1)
	_ = sub.Stop()
	wg.Wait()
}

func TestStressOrderPerPublisher(t *testing.T) {
	const publishers, each = 20, 500
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 10))
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				prop := toQueue("q")
				prop.CorrelationID, prop.Attempt = fmt.Sprint(p), i+1
				_ = c.Publish(ctx, prop, msg("m"))
			}
		})
	}
	next := make(map[string]int)
	for range publishers * each {
		d, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		next[d.CorrelationID]++
		if d.Attempt != next[d.CorrelationID] {
			t.Fatalf("publisher %s: got %d, want %d", d.CorrelationID, d.Attempt, next[d.CorrelationID])
		}
		settle(t, d, adapters.Ack)
	}
	wg.Wait()
}

// Sessions die, consumers are cancelled, subscriptions come and go, and messages
// are requeued and rejected to a queue of which they come back; and still each
// is acknowledged once.
func TestStressNothingIsLostOrDuplicated(t *testing.T) {
	const publishers, each = 20, 300
	b := New()
	t.Cleanup(b.Close)
	s := fromQueue("q", 7)
	s.Queue.DeadLetter = "q.dead"
	s.Queue.MaxPriority = 3
	l := newLedger(publishers * each)
	fate := func() adapters.Outcome {
		return [...]adapters.Outcome{adapters.Ack, adapters.Ack, adapters.Requeue, adapters.Reject}[rand.IntN(4)]
	}
	var wg, nemeses sync.WaitGroup
	var clients []*Client
	for range 3 {
		c := b.Connect()
		clients = append(clients, c)
		for _, s := range []adapters.Source{s, fromQueue("q.dead", 3)} {
			sub := subscribe(t, c, s)
			for range 2 {
				fate := fate
				if s.Name == "q.dead" { // which has no dead-letter queue
					fate = func() adapters.Outcome { return adapters.Outcome(rand.IntN(2)) }
				}
				wg.Go(func() { l.work(sub, fate) })
			}
		}
	}
	stop := make(chan struct{})
	nemesis := func(do func()) {
		nemeses.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rand.IntN(int(time.Millisecond)))):
					do()
				}
			}
		})
	}
	nemesis(b.Cut)
	nemesis(b.Restart)
	nemesis(func() { clients[rand.IntN(len(clients))].Cut() })
	// One fault of a kind waits at a time: on a busy machine there would be more of
	// them than deliveries, and so none that arrives.
	fault := func(f Fault) {
		remove := func() {}
		nemesis(func() {
			remove()
			remove = b.Inject(f)
		})
	}
	fault(Fault{On: OnDeliver, Times: 1, Do: CancelConsumer})
	fault(Fault{On: OnSettle, Times: 1, Do: CutSession})
	fault(Fault{On: OnSubscribe, Times: 1, Do: Refuse})
	nemesis(func() {
		if sub, err := clients[0].Subscribe(ctx, s); err == nil {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			d, err := sub.Receive(short)
			cancel()
			_ = sub.Stop()
			if err == nil {
				_ = d.Settle(ctx, adapters.Requeue)
			}
		}
	})
	nemesis(func() {
		if d, err := clients[1].Get(ctx, s); err == nil {
			_ = d.Settle(ctx, adapters.Requeue)
		}
	})
	for p := range publishers {
		wg.Go(func() {
			c := clients[p%len(clients)]
			for i := range each {
				to := toQueue("q")
				to.Priority = uint8(i % 5)
				if err := c.Publish(ctx, to, msg(fmt.Sprintf("%d/%d", p, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	l.check(t, publishers*each)
	close(stop)
	nemeses.Wait()
	for _, name := range []string{"q", "q.dead"} {
		if info, _ := b.Queue(name); info.Ready+info.Unacked > 0 {
			t.Errorf("%s is left with %+v", name, info)
		}
	}
	b.Close()
	wg.Wait()
}

// Everything at once, while clients and the broker are closed: nothing hangs,
// and all errors are what they should be.
func TestStressClose(t *testing.T) {
	for range 50 {
		b := New()
		var wg sync.WaitGroup
		for range 4 {
			c := b.Connect()
			expected := func(err error) {
				for _, ok := range []error{adapters.ErrClosed, adapters.ErrStopped, adapters.ErrStaleDelivery, adapters.ErrEmpty, adapters.ErrNotFound} {
					if err == nil || errors.Is(err, ok) {
						return
					}
				}
				t.Errorf("unexpected error: %v", err)
			}
			for range 3 {
				wg.Go(func() {
					for err := error(nil); !errors.Is(err, adapters.ErrClosed); {
						err = c.Publish(ctx, to(adapters.Topic, "k"), msg("a"))
						expected(err)
					}
				})
				wg.Go(func() {
					for {
						sub, err := c.Subscribe(ctx, from(adapters.Topic, "g", "#"))
						expected(err)
						if err != nil {
							return
						}
						d, err := sub.Receive(ctx)
						expected(err)
						if err == nil {
							expected(d.Settle(ctx, adapters.Requeue))
						}
						expected(sub.Stop())
					}
				})
				wg.Go(func() {
					sub, err := c.Subscribe(ctx, from(adapters.Topic, "", "k"))
					expected(err)
					for err == nil {
						var d adapters.Delivery
						if d, err = sub.Receive(ctx); err == nil {
							expected(d.Settle(ctx, adapters.Ack))
						}
					}
				})
				wg.Go(func() {
					for err := error(nil); !errors.Is(err, adapters.ErrClosed); {
						var d adapters.Delivery
						if d, err = c.Get(ctx, from(adapters.Topic, "g", "#")); err == nil {
							expected(d.Settle(ctx, adapters.Ack))
						}
						expected(err)
					}
				})
			}
			wg.Go(func() {
				for range 10 {
					c.Cut()
					_ = b.DeleteQueue("the-topic:g")
				}
				_ = c.Close(ctx)
			})
		}
		b.Cut()
		b.Restart()
		b.Close()
		wg.Wait()
	}
}

func TestBindingsChangeBetweenMessagesNotWithin(t *testing.T) {
	b, c := connect(t)
	s := from(adapters.Direct, "g", "k")
	declare(t, c, s)
	var wg sync.WaitGroup
	var routed atomic.Int64
	p := to(adapters.Direct, "k")
	p.Mandatory = true
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if c.Publish(ctx, p, msg("a")) == nil {
					routed.Add(1)
				}
			}
		})
	}
	for range 1000 {
		_ = c.Unbind(ctx, s)
		_ = c.Declare(ctx, s)
	}
	wg.Wait()
	if info, _ := b.Queue("the-direct:g"); int64(info.Ready) != routed.Load() {
		t.Errorf("%d messages in the queue, but %d were routed", info.Ready, routed.Load())
	}
}
