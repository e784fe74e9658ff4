package patterns_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// turnstile is a gate for a number of messages, that several workers may pass.
type turnstile struct {
	mu       sync.Mutex
	left     int
	least    int
	released int
}

func (g *turnstile) Wait(ctx context.Context) (bool, error) {
	for {
		g.mu.Lock()
		left := g.left
		g.mu.Unlock()
		if left > 0 {
			return false, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (g *turnstile) Reserve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left--
	g.least = min(g.least, g.left)
}

func (g *turnstile) Fetched() { g.Reserve() }

func (g *turnstile) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left++
	g.released++
}

// slowGetter takes a second to get a message. It notes how many get one at a time, and how often
// one is asked for.
type slowGetter struct {
	*memory.Client
	mu         sync.Mutex
	gets       int
	under, top int
}

func (d *slowGetter) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	d.count(1)
	defer d.count(-1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return adapters.Delivery{}, ctx.Err()
	}
	return d.Client.Get(ctx, s)
}

// seen returns how many messages were asked for so far, and how many at a time.
func (d *slowGetter) seen() (gets, top int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gets, d.top
}

func (d *slowGetter) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.under += n
	d.gets += max(0, n)
	d.top = max(d.top, d.under)
}

// Workers fetch beside each other what a gate has let them reserve, and no more.
func TestGateThatReserves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		driver := &slowGetter{Client: broker.Connect()}
		bus := patterns.New(driver)
		gate := &turnstile{left: 9}
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.SendBatch(t.Context(), make([]int, 12)))
		seen := newJournal[int]()
		sub, err := q.Work(t.Context(), func(_ context.Context, n int) error { seen.add(n); return nil },
			patterns.WithGate(gate), patterns.Workers(4))
		must(t, err)
		time.Sleep(3500 * time.Millisecond) // one alone, which says that there are more; then four, twice
		if _, top := driver.seen(); len(seen.snapshot()) != 9 || top != 4 {
			t.Errorf("%d messages, %d at a time", len(seen.snapshot()), top)
		}
		time.Sleep(time.Minute)
		if gets, _ := driver.seen(); len(seen.snapshot()) != 9 || gets != 9 {
			t.Errorf("gate for 9: %d messages, asked for %d", len(seen.snapshot()), gets)
		}

		// Those who find nothing give back what they reserved, and then one waits for them all.
		gate.mu.Lock()
		gate.left = 100
		gate.mu.Unlock()
		time.Sleep(time.Minute)
		asked, _ := driver.seen()
		time.Sleep(time.Hour)
		if gets, _ := driver.seen(); gets != asked {
			t.Errorf("asked an empty queue %d times an hour", gets-asked)
		}
		gate.mu.Lock()
		if gate.left != 97 || gate.released == 0 || gate.least < 0 {
			t.Errorf("%d left of 100 after 3 messages, %d released; least %d", gate.left, gate.released, gate.least)
		}
		gate.mu.Unlock()

		// What is on its way when the subscription is stopped goes back.
		must(t, q.SendBatch(t.Context(), make([]int, 20)))
		time.Sleep(2500 * time.Millisecond)
		must(t, sub.Stop(t.Context()))
		info, err := driver.Inspect(t.Context(), "q")
		must(t, err)
		if n := len(seen.snapshot()); n+info.Ready != 32 || info.Unacked != 0 || info.Ready == 0 {
			t.Errorf("%d handled and %d left of 32, %d neither", n, info.Ready, info.Unacked)
		}
		must(t, bus.Close(context.Background()))
	})
}

// panicky is a gate that panics when it is told to reserve, or to release.
type panicky struct {
	turnstile
	reserve bool
}

func (g *panicky) Fetched() {}

func (g *panicky) Reserve() {
	if g.reserve {
		panic(errKitchen)
	}
}

func (g *panicky) Release() { panic(errKitchen) }

func TestGateThatPanicsAsItReserves(t *testing.T) {
	for name, reserve := range map[string]bool{"Reserve": true, "Release": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				bus := patterns.New(&slowGetter{Client: broker.Connect()})
				gate := &panicky{turnstile{left: 1}, reserve}
				q := patterns.NewWorkQueue[int](bus, "q")
				must(t, q.SendBatch(t.Context(), make([]int, 2)))
				sub, err := q.Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithGate(gate), patterns.Workers(4))
				must(t, err)
				wantErr(t, "Wait", sub.Wait(), errKitchen)
				must(t, bus.Close(context.Background()))
			})
		})
	}
}
