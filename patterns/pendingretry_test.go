package patterns_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// confirmingDriver leaves it to the test what becomes of retries that nobody waits for, and when.
type confirmingDriver struct {
	*memory.Client
	mu      sync.Mutex
	pending []func(error) // stores the message, if its error is nil
}

func (d *confirmingDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if p.Delay == 0 {
		return d.Client.PublishAsync(ctx, p, m, done)
	}
	m = message.NewMessage(m.UUID, slices.Clone(m.Payload))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = append(d.pending, func(err error) {
		if err == nil {
			err = d.Publish(context.Background(), p, m)
		}
		done(err)
	})
	return nil
}

// confirm answers what was sent so far.
func (d *confirmingDriver) confirm(err error) (n int) {
	d.mu.Lock()
	pending := d.pending
	d.pending = nil
	d.mu.Unlock()
	for _, f := range pending {
		f(err)
	}
	return len(pending)
}

// confirming runs f, in a bubble, with a queue of so many orders whose handler fails at first.
func confirming(t *testing.T, orders int, f func(t *testing.T, c *confirmingTest), opts ...patterns.WorkOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		c := &confirmingTest{broker: broker, driver: &confirmingDriver{Client: broker.Connect()}, began: time.Now()}
		c.bus = patterns.New(c.driver)
		defer c.bus.Close(context.Background())
		q := patterns.NewWorkQueue[string](c.bus, "orders")
		for range orders {
			must(t, q.Send(t.Context(), "ramen"))
		}
		var err error
		c.sub, err = q.Work(t.Context(), func(ctx context.Context, _ string) error {
			d, _ := patterns.DeliveryFrom(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tries = append(c.tries, d.Attempt)
			c.times = append(c.times, time.Since(c.began))
			c.lost = max(c.lost, d.Lost)
			if d.Attempt == 1 {
				return patterns.RetryAfter(10*time.Second, errKitchen)
			}
			return nil
		}, append(opts, patterns.Prefetch(4))...)
		must(t, err)
		synctest.Wait()
		f(t, c)
	})
}

type confirmingTest struct {
	broker *memory.Broker
	driver *confirmingDriver
	bus    *patterns.Bus
	sub    *patterns.Subscription
	began  time.Time
	mu     sync.Mutex // for the race detector, which does not take a sleep for an order
	tries  []int
	times  []time.Duration
	lost   int
}

// check compares which attempts there were, and what is in the queue.
func (c *confirmingTest) check(t *testing.T, tries []int, unacked int) {
	t.Helper()
	synctest.Wait()
	info, _ := c.broker.Queue("orders")
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.tries, tries) || info.Unacked != unacked {
		t.Errorf("attempts %v, %+v, want %v, %d unacked", c.tries, info, tries, unacked)
	}
}

// A worker does not wait until the broker has what is to be retried, and what it leaves behind
// stays in hand until then.
func TestRetriesThatNobodyWaitsFor(t *testing.T) {
	confirming(t, 3, func(t *testing.T, c *confirmingTest) {
		c.check(t, []int{1, 1, 1}, 3)
		if n := c.driver.confirm(nil); n != 3 {
			t.Errorf("%d were sent", n)
		}
		c.check(t, []int{1, 1, 1}, 0)
		time.Sleep(10 * time.Second)
		c.check(t, []int{1, 1, 1, 2, 2, 2}, 0)
		if s := c.bus.Stats(); s != (patterns.Stats{Retried: 3}) {
			t.Errorf("%+v", s)
		}
	})
}

// No more of them are left behind than are prefetched.
func TestRetriesThatNobodyWaitsForAreBounded(t *testing.T) {
	confirming(t, 9, func(t *testing.T, c *confirmingTest) {
		c.check(t, []int{1, 1, 1, 1}, 4)
		c.driver.confirm(nil)
		c.check(t, []int{1, 1, 1, 1, 1, 1, 1, 1}, 4)
		c.driver.confirm(nil)
		c.check(t, []int{1, 1, 1, 1, 1, 1, 1, 1, 1}, 1)
		c.driver.confirm(nil)
	})
}

// oneByOne is a gate that lets nothing be fetched ahead.
type oneByOne struct{}

func (oneByOne) Wait(context.Context) (ahead bool, err error) { return false, nil }
func (oneByOne) Fetched()                                     {}

// Nor without end behind a gate, where each message is fetched alone. The last one is waited for.
func TestRetriesThatNobodyWaitsForAreBoundedBehindAGate(t *testing.T) {
	confirming(t, 20, func(t *testing.T, c *confirmingTest) {
		time.Sleep(time.Second)
		synctest.Wait()
		if n := c.driver.confirm(nil); n != 8 {
			t.Errorf("%d are in hand", n)
		}
	}, patterns.WithGate(oneByOne{}))
}

// Neither Stop nor Pause returns before it is known what became of them.
func TestStopWaitsForRetries(t *testing.T) {
	for name, end := range map[string]func(*patterns.Subscription, context.Context) error{
		"Stop": (*patterns.Subscription).Stop, "Pause": (*patterns.Subscription).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			confirming(t, 2, func(t *testing.T, c *confirmingTest) {
				ended := make(chan error, 1)
				go func() { ended <- end(c.sub, context.Background()) }()
				time.Sleep(5 * time.Second)
				select {
				case err := <-ended:
					t.Fatalf("it returned %v with retries in hand", err)
				default:
				}
				c.driver.confirm(nil)
				must(t, <-ended)
				c.check(t, []int{1, 1}, 0)
				if s := c.bus.Stats(); s != (patterns.Stats{Retried: 2}) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// What could not be sent is neither lost nor doubled, nor does it come without an end.
func TestRetriesThatFailLater(t *testing.T) {
	const second = time.Second
	for _, r := range []struct {
		name  string
		err   error
		tries []int
		times []time.Duration
		stats patterns.Stats
		dead  int
	}{
		{"refused", adapters.ErrNacked, []int{1, 2}, []time.Duration{0, 10 * second}, patterns.Stats{Retried: 1}, 0},
		{"unconfirmed", adapters.ErrUnconfirmed, []int{1, 1, 2}, []time.Duration{0, second, 11 * second}, patterns.Stats{Retried: 1, Requeued: 1}, 0},
		{"no right", adapters.ErrAccess, []int{1, 1, 2}, []time.Duration{0, 10 * second, 20 * second}, patterns.Stats{Retried: 1, Requeued: 1}, 0},
		{"too large", adapters.ErrTooLarge, []int{1}, []time.Duration{0}, patterns.Stats{DeadLettered: 1}, 1},
	} {
		t.Run(r.name, func(t *testing.T) {
			confirming(t, 1, func(t *testing.T, c *confirmingTest) {
				c.driver.confirm(r.err)
				time.Sleep(time.Minute)
				c.check(t, r.tries, 0)
				if c.driver.confirm(nil) > 0 {
					t.Error("nobody waits for the second retry, either")
				}
				if dead, _ := c.broker.Queue("orders.dead"); !slices.Equal(c.times, r.times) || c.bus.Stats() != r.stats || dead.Ready != r.dead {
					t.Errorf("tried at %v, want %v; %+v, %d dead letters", c.times, r.times, c.bus.Stats(), dead.Ready)
				}
			})
		})
	}
}

// The broker need not answer at all, and what it answers later has no effect.
func TestRetryThatIsNeverConfirmed(t *testing.T) {
	confirming(t, 1, func(t *testing.T, c *confirmingTest) {
		time.Sleep(10*time.Second - 1)
		c.check(t, []int{1}, 1)
		time.Sleep(time.Second + 1)
		c.check(t, []int{1, 1}, 0)
		c.driver.confirm(adapters.ErrClosed)
		time.Sleep(time.Minute)
		c.check(t, []int{1, 1, 2}, 0)
		if s := c.bus.Stats(); s != (patterns.Stats{Retried: 1, Requeued: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// A message whose session is lost meanwhile comes again, and that is no loss of a worker.
func TestRetryWhoseSessionIsLost(t *testing.T) {
	confirming(t, 2, func(t *testing.T, c *confirmingTest) {
		c.driver.Cut()
		c.check(t, []int{1, 1, 1, 1}, 0)
		c.driver.confirm(nil)
		time.Sleep(time.Minute)
		c.check(t, []int{1, 1, 1, 1, 2, 2, 2, 2}, 0)
		if s := c.bus.Stats(); c.lost > 0 || s.Stale != 2 {
			t.Errorf("%d lost, %+v", c.lost, s)
		}
	})
}

// Hooks hear of a retry once the message is settled.
func TestHooksOfRetriesThatNobodyWaitsFor(t *testing.T) {
	var settled []patterns.Settlement
	hook := func(_ context.Context, s patterns.Settlement) { settled = append(settled, s) }
	confirming(t, 1, func(t *testing.T, c *confirmingTest) {
		if len(settled) > 0 {
			t.Errorf("settled before the broker has it: %+v", settled)
		}
		time.Sleep(time.Second)
		c.driver.confirm(nil)
		c.check(t, []int{1}, 0)
		if len(settled) != 1 || settled[0].Result != patterns.ResultRetried || settled[0].RetryIn != 10*time.Second || settled[0].Attempt != 1 {
			t.Errorf("settled %+v", settled)
		}
	}, patterns.OnSettle(hook))
}
