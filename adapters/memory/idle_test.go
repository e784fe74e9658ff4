package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Queues are looked at one after the other, so that a message could pass behind the back of who
// looks: that is a change, wherever it passes.
func TestNothingPassesUnnoticed(t *testing.T) {
	b, c := connect(t)
	b.idle.waiting.Add(1)
	sub := subscribe(t, c, fromQueue("q", 1))
	for what, pass := range map[string]func(){
		"a message that is published and acknowledged": func() {
			publish(t, c, toQueue("q"), "a")
			settle(t, receive(t, sub, "a"), adapters.Ack)
		},
		"a message that is delayed": func() {
			p := toQueue("q")
			p.Delay = time.Hour
			publish(t, c, p, "a")
			b.delays.filter(func(*delayed) bool { return false })
		},
		"a purge": func() {
			if _, err := b.Purge("q"); err != nil {
				t.Error(err)
			}
		},
	} {
		_, seen := b.idle.next()
		pass()
		if busy := b.inFlight(nil); busy != "" {
			t.Errorf("%s: there is %s", what, busy)
		}
		if b.idle.quiet(seen) {
			t.Errorf("%s passes unnoticed", what)
		}
	}
}

// A dead letter between its two queues is in flight.
func TestADeadLetterOnItsWayIsInFlight(t *testing.T) {
	b, c := connect(t)
	b.idle.waiting.Add(1)
	s := fromQueue("q", 1)
	s.Queue.DeadLetter = "dead"
	sub := subscribe(t, c, s)
	publish(t, c, toQueue("q"), "a")
	d := receive(t, sub, "a")
	dead := b.routes.queues["dead"]
	dead.mu.Lock() // where it has to wait
	settled := make(chan error)
	go func() { settled <- d.Settle(ctx, adapters.Reject) }()
	q := b.routes.queues["q"]
	for held := 1; held > 0; {
		q.mu.Lock()
		held = q.unacked
		q.mu.Unlock()
	}
	_, seen := b.idle.next()
	if b.idle.quiet(seen) {
		t.Error("nothing seems to move")
	}
	dead.mu.Unlock()
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if _, seen = b.idle.next(); !b.idle.quiet(seen) {
		t.Error("something seems to move")
	}
}

func TestWaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		c := b.Connect()
		defer b.Close()
		if err := b.WaitIdle(ctx); err != nil { // at once
			t.Error(err)
		}
		declare(t, c, fromQueue("q", 1))
		publish(t, c, toQueue("q"), "a")
		if err := c.WaitIdle(ctx, nil); err != nil { // which nobody is going to get
			t.Error(err)
		}
		sub := subscribe(t, c, fromQueue("q", 1))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := b.WaitIdle(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("idle with a message in hand: %v", err)
		}
		idle := make(chan error, 1)
		go func() { idle <- b.WaitIdle(ctx) }()
		synctest.Wait()
		settle(t, receive(t, sub, "a"), adapters.Ack)
		if err := <-idle; err != nil {
			t.Error(err)
		}
		if b.idle.waiting.Load() != 0 {
			t.Error("somebody seems to wait")
		}
	})
}

// What waits for a subscription that is being restored is in flight, and no longer if that ends.
func TestWaitIdleWhileASubscriptionIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		c := b.Connect()
		defer b.Close()
		sub := subscribe(t, c, fromQueue("q", 1))
		remove := b.Inject(Fault{On: OnSubscribe, Name: "q", Do: Refuse})
		defer remove()
		publish(t, c, toQueue("q"), "a")
		b.Cut()
		idle := make(chan error, 1)
		go func() { idle <- b.WaitIdle(ctx) }()
		time.Sleep(time.Hour)
		select {
		case err := <-idle:
			t.Errorf("idle while the subscription is restored: %v", err)
			return
		default:
		}
		if err := sub.Stop(); err != nil {
			t.Error(err)
		}
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}
