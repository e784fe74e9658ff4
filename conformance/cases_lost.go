package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// quickly is a retry policy for what is to come again soon.
var quickly = patterns.Retry(patterns.RetryPolicy{Min: 20 * time.Millisecond})

var lostCases = []Case{
	{
		ID:    "lost/returned",
		Rule:  "A message that comes back says how often it has, or that nobody counts; one that is new says 0, and how many losses its publisher counted.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			p := to(s)
			p.Lost = 3
			t.must(d.Publish(t.soon(), p, text("m")[0]), "publishing")
			counted := true
			for came := range 4 {
				got := t.receive(sub)
				if came == 1 {
					counted = got.Returned >= 0
				}
				want := came
				if came > 0 && !counted {
					want = -1
				}
				if got.Returned != want || got.Lost != 3 {
					t.errorf("when it comes for the %d. time it says %d, not %d; and %d losses, not 3", came+1, got.Returned, want, got.Lost)
				}
				if came == 3 {
					t.settle(got, adapters.Ack)
				} else {
					t.settle(got, adapters.Requeue)
				}
			}
		},
	},
	{
		ID:    "lost/returned-by-cut",
		Rule:  "What a lost session gives back counts as returned, too.",
		Needs: adapters.CanRequeue,
		Hooks: WithCut,
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			t.publish(d, to(s), "m")
			for range 2 {
				held := t.hold(sub, 1)
				t.must(t.h.Cut(t.soon()), "cutting the sessions")
				wait(t, held[0].Message.Context().Done(), "the message's context ends")
			}
			got := t.receive(sub)
			t.settle(got, adapters.Ack)
			if got.Returned != 2 && got.Returned != -1 {
				t.errorf("it says that it came back %d times, not 2", got.Returned)
			}
		},
	},
	{
		ID:    "lost/held-too-long",
		Rule:  "What is held for longer than the broker allows comes again, to whoever is there; all contexts of the subscription's messages end with ErrConsumerTimeout, and to settle late is ErrStaleDelivery, which for the one that was held too long is ErrConsumerTimeout, too.",
		Needs: adapters.CanRequeue,
		Hooks: WithHoldLimit,
		run: func(t *trial) {
			const limit = 4 * time.Second
			undo, err := t.h.HoldLimit(t.soon(), limit)
			t.must(err, "limiting how long a message is held")
			t.atEnd(func(context.Context) error { return undo() })
			d, s := t.connect(), queue(t.name("queue"), 2)
			s.HoldTime = limit
			sub := t.subscribe(d, s)
			t.publish(d, to(s), "long")
			held := t.hold(sub, 1)
			time.Sleep(limit / 2)
			t.publish(d, to(s), "beside")
			held = append(held, t.hold(sub, 1)...)
			for _, old := range held {
				ctx := old.Message.Context()
				wait(t, ctx.Done(), "the message's context ends")
				t.is(context.Cause(ctx), adapters.ErrConsumerTimeout, "the cause with which a message's context ends")
				t.is(context.Cause(ctx), adapters.ErrSessionLost, "the cause with which a message's context ends")
			}
			for i, old := range held {
				err := old.Settle(t.soon(), adapters.Ack)
				t.is(err, adapters.ErrStaleDelivery, "settling late")
				if tooLong := errors.Is(err, adapters.ErrConsumerTimeout); tooLong != (i == 0) {
					t.errorf("settling %q late: %v", old.Message.UUID, err)
				}
			}
			again := t.hold(sub, 2)
			t.sameSet(ids(again), []string{"long", "beside"}, "what comes again")
			for _, got := range again {
				if !got.Redelivered || got.Returned == 0 {
					t.errorf("%q came back, and says %t, %d", got.Message.UUID, got.Redelivered, got.Returned)
				}
				t.settle(got, adapters.Ack)
			}
			t.publish(d, to(s), "a", "b", "c", "d") // of which none goes to one who was given up
			same(t, t.take(sub, 4), []string{"a", "b", "c", "d"}, "what comes next")
		},
	},
	{
		ID:    "lost/parked",
		Rule:  "A message whose worker is lost as often as the limit allows goes to the dead letters, and says so; what was in the same hands is handled.",
		Needs: failureNeeds | adapters.CanRequeue | adapters.CanGet,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			t.must(q.SendBatch(t.soon(), []string{"good 1", "bad", "good 2", "good 3"}), "sending")
			handled := make(chan string, 100)
			lost, stopped, goods, dead := 0, 0, map[string]bool{}, false
			for started := 0; !dead || len(goods) < 3; started++ {
				if started == 30 {
					t.fatalf("after %d workers were lost it is dead: %t, and of the others' messages %d were handled", lost, dead, len(goods))
				}
				if t.lostWorker(q.Name(), handled) {
					lost++
				} else {
					stopped++
				}
				for len(handled) > 0 {
					goods[<-handled] = true
				}
				letter, err := q.Dead().TryGet(t.soon())
				if err != nil {
					t.is(err, adapters.ErrEmpty, "looking for a dead letter")
					continue
				}
				dead = true
				t.must(letter.Ack(t.soon()), "acknowledging a dead letter")
				same(t, []string{letter.Value, letter.Headers[patterns.HeaderReason], letter.Headers[patterns.HeaderLosses], letter.Headers[patterns.HeaderAttempts]},
					[]string{"bad", "its worker was lost 5 times", "5", "1"}, "the letter, and what it says")
			}
			// A worker that is lost between sending the copy with the count and acknowledging the
			// message leaves two of them. Until a message is suspected, which takes two returns,
			// what a worker gives back when it stops is one of them.
			if lost+min(stopped, 2) < 5 || lost > 2*5 {
				t.errorf("%d workers were lost, and %d stopped", lost, stopped)
			}
		},
	},
	{
		ID:    "lost/shutdown",
		Rule:  "A shutdown loses no worker: a message that is given back by any number of them is no dead letter.",
		Needs: failureNeeds | adapters.CanRequeue,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			t.must(q.Send(t.soon(), "x"), "sending")
			for range 6 {
				h, attempts := handler(func(ctx context.Context, _ attempt) error {
					<-ctx.Done()
					return ctx.Err()
				})
				sub := work(t, patterns.NewWorkQueue[string](t.bus(), q.Name()), h, patterns.LossLimit(3), patterns.DrainTimeout(0), quickly)
				wait(t, attempts, "the message")
				// A handler that is slow to come back is abandoned, and its message given back as
				// well.
				if err := sub.Stop(t.soon()); !errors.Is(err, patterns.ErrAbandoned) {
					t.must(err, "stopping")
				}
			}
			t.mustBeHandled(q)
		},
	},
	{
		ID:    "lost/cut",
		Rule:  "A lost connection loses no worker that lives: a message that came back for any number of them is no dead letter.",
		Needs: failureNeeds | adapters.CanRequeue,
		Hooks: WithCut,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(ctx context.Context, d attempt) error {
				<-ctx.Done()
				return ctx.Err()
			})
			sub := work(t, q, h, patterns.LossLimit(3), patterns.DrainTimeout(0), quickly)
			t.must(q.Send(t.soon(), "x"), "sending")
			for range 6 {
				wait(t, attempts, "the message")
				t.must(t.h.Cut(t.soon()), "cutting the sessions")
			}
			wait(t, attempts, "the message")
			t.must(sub.Stop(t.soon()), "stopping")
			t.mustBeHandled(q)
		},
	},
}

// lostWorker works on a queue until it has a message that is bad, and is lost with all that it
// has then: its client closes, as a process that dies loses its connection. It reports whether
// there was one; if not, no message has come for a while.
func (t *trial) lostWorker(name string, handled chan<- string) (lost bool) {
	const idle = 2 * time.Second
	client := t.connect()
	bus := patterns.New(client, silent)
	bad, did := make(chan struct{}, 10), make(chan struct{}, 10)
	sub, err := patterns.NewWorkQueue[string](bus, name).Work(t.ctx, func(ctx context.Context, value string) error {
		if value == "bad" {
			tell(t, bad, struct{}{})
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tell(t, handled, value)
		tell(t, did, struct{}{})
		return nil
	}, patterns.Workers(2), patterns.Prefetch(4), quickly)
	t.must(err, "starting to work")
	for quiet := false; !lost && !quiet; {
		select {
		case <-bad:
			lost = true
			t.must(client.Close(t.soon()), "closing")
		case <-did:
		case <-time.After(idle):
			quiet = true
		}
	}
	if lost {
		<-sub.Done()
		return true
	}
	t.must(sub.Stop(t.soon()), "stopping")
	t.must(bus.Close(t.soon()), "closing")
	return false
}

// mustBeHandled checks that the one message of q is handled now, and no dead letter.
func (t *trial) mustBeHandled(q *patterns.WorkQueue[string]) {
	h, attempts := handler(func(context.Context, attempt) error { return nil })
	work(t, q, h, quickly)
	got := wait(t, attempts, "the message")
	if got.Lost > 2 {
		t.errorf("it says that its worker was lost %d times", got.Lost)
	}
	if letter, err := q.Dead().TryGet(t.soon()); err == nil {
		t.must(letter.Ack(t.soon()), "acknowledging a dead letter")
		t.errorf("there is a dead letter: %s", fmt.Sprint(letter.Headers))
	}
}
