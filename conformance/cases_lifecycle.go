package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
)

var lifecycleCases = []Case{
	{
		ID:   "lifecycle/close-twice",
		Rule: "To close a driver twice is harmless, also at the same time.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			t.subscribe(d, s)
			errs := make(chan error, 4)
			for range cap(errs) {
				t.spawn(func() { errs <- d.Close(t.soon()) })
			}
			for range cap(errs) {
				if err := wait(t, errs, "Close returns"); err != nil {
					t.errorf("closing at the same time: %v", err)
				}
			}
			if err := d.Close(t.soon()); err != nil {
				t.errorf("closing once more: %v", err)
			}
		},
	},
	{
		ID:   "lifecycle/after-close",
		Rule: "After Close every method returns ErrClosed, and nothing is sent or declared.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			t.must(d.Close(t.soon()), "closing")
			ctx := t.soon()
			closed := func(err error, method string) { t.is(err, adapters.ErrClosed, method+" after Close") }
			closed(d.Declare(ctx, s), "Declare")
			closed(d.Publish(ctx, to(s), text("a", "b")...), "Publish")
			closed(d.Publish(ctx, to(s)), "Publish of no messages")
			closed(d.PublishAsync(ctx, to(s), text("c")[0], func(error) {
				t.errorf("PublishAsync called back though it returned an error")
			}), "PublishAsync")
			_, err := d.Subscribe(ctx, s)
			closed(err, "Subscribe")
			_, err = sub.Receive(ctx)
			closed(err, "Receive")
			if err := sub.Stop(); err != nil {
				t.errorf("Stop after Close: %v", err)
			}
			if t.claims.Ability.Has(adapters.CanGet) {
				_, err = d.Get(ctx, s)
				closed(err, "Get")
			}
			if t.claims.Ability.Has(adapters.CanGroup | adapters.CanFanout | adapters.CanUnbind) {
				closed(d.Unbind(ctx, group(adapters.Fanout, t.name("news"), "group")), "Unbind")
			}
			other := t.connect()
			sub = t.subscribe(other, s)
			t.publish(other, to(s), "marker")
			same(t, t.take(sub, 1), []string{"marker"}, "what is in the queue")
		},
	},
	{
		ID:   "lifecycle/close-ends-receive",
		Rule: "Close ends every Receive that waits, with ErrClosed.",
		run: func(t *trial) {
			d, _, sub := t.subscribed(1)
			errs := t.receivers(sub, 3)
			t.must(d.Close(t.soon()), "closing")
			for range 3 {
				t.is(wait(t, errs, "Receive returns"), adapters.ErrClosed, "Receive while the driver was closed")
			}
		},
	},
	{
		ID:   "lifecycle/stop-ends-receive",
		Rule: "Stop ends every Receive that waits, and those that come later, with ErrStopped; to stop twice is harmless.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			errs := t.receivers(sub, 3)
			stopped := make(chan error, 2)
			for range 2 {
				t.spawn(func() { stopped <- sub.Stop() })
			}
			for range 2 {
				t.must(wait(t, stopped, "Stop returns"), "stopping at the same time")
			}
			t.must(sub.Stop(), "stopping once more")
			for range 3 {
				t.is(wait(t, errs, "Receive returns"), adapters.ErrStopped, "Receive while the subscription was stopped")
			}
			other := t.subscribe(d, s)
			t.publish(d, to(s), "after")
			_, err := sub.Receive(t.soon())
			t.is(err, adapters.ErrStopped, "Receive after Stop")
			same(t, t.take(other, 1), []string{"after"}, "what another subscription gets")
		},
	},
	{
		ID:    "lifecycle/stop-gives-back",
		Rule:  "What was not received when a subscription is stopped goes back at once, in order; what was in hand does not.",
		Needs: adapters.CanRequeue,
		run: func(t *trial) {
			d, s, sub := t.subscribed(10)
			t.publish(d, to(s), numbered("m", 6)...)
			held := t.receive(sub)
			t.must(sub.Stop(), "stopping")
			same(t, t.take(t.subscribe(t.connect(), s), 5), []string{"m-2", "m-3", "m-4", "m-5", "m-6"}, "what another subscription got")
			t.settle(held, adapters.Ack)
		},
	},
	{
		ID:   "lifecycle/ended-ctx",
		Rule: "With a ctx that has ended nothing is declared, subscribed or received, and the error wraps that of the ctx.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			missing := queue(t.name("missing"), 1)
			ended, cancel := context.WithCancel(t.ctx)
			cancel()
			t.is(d.Declare(ended, missing), context.Canceled, "Declare")
			sub, err := d.Subscribe(ended, missing)
			if t.is(err, context.Canceled, "Subscribe"); err == nil {
				_ = sub.Stop()
			}
			if t.claims.Ability.Has(adapters.CanGet) {
				_, err = d.Get(ended, missing)
				t.is(err, context.Canceled, "Get")
			}
			if t.claims.Ability.Has(adapters.CanPassive) {
				missing.Passive = true
				t.is(d.Declare(t.soon(), missing), adapters.ErrNotFound, "looking for the queue afterwards")
			}
			sub = t.subscribe(d, s)
			_, err = sub.Receive(ended)
			t.is(err, context.Canceled, "Receive")
			t.publish(d, to(s), "a")
			same(t, t.take(sub, 1), []string{"a"}, "what was received by the next Receive")
		},
	},
	{
		ID:   "lifecycle/receive-gives-up",
		Rule: "A Receive that waits comes back when its ctx ends, and takes no message with it.",
		run: func(t *trial) {
			d, s, sub := t.subscribed(1)
			for i := range 20 {
				ctx, cancel := context.WithCancel(t.ctx)
				type result struct {
					adapters.Delivery
					err error
				}
				back := make(chan result, 1)
				t.spawn(func() {
					d, err := sub.Receive(ctx)
					back <- result{d, err}
				})
				id := fmt.Sprintf("m-%d", i)
				if i%2 == 0 { // before the message comes, or just then
					cancel()
				} else {
					t.spawn(cancel)
				}
				t.publish(d, to(s), id)
				got := wait(t, back, "Receive returns")
				cancel()
				if got.err != nil {
					t.is(got.err, context.Canceled, "Receive whose ctx ended")
					got.Delivery = t.receive(sub)
				}
				same(t, []string{got.Message.UUID}, []string{id}, "what was received")
				t.settle(got.Delivery, adapters.Ack)
			}
		},
	},
	{
		ID:   "lifecycle/subscribe-ctx",
		Rule: "The ctx of Subscribe bounds the call, not the life of the subscription.",
		run: func(t *trial) {
			d, s := t.connect(), queue(t.name("queue"), 1)
			ctx, cancel := context.WithCancel(t.soon())
			sub, err := d.Subscribe(ctx, s)
			cancel()
			t.must(err, "subscribing")
			for _, id := range []string{"a", "b", "c"} {
				t.publish(d, to(s), id)
				same(t, t.take(sub, 1), []string{id}, "what came after the end of that ctx")
			}
		},
	},
	{
		ID:   "lifecycle/close-in-hand",
		Rule: "Close waits for nobody who has messages in hand, and leaves no goroutine behind.",
		run: func(t *trial) {
			d := t.connect()
			for i := range 3 {
				s := queue(fmt.Sprintf("%s-%d", t.name("queue"), i), 2)
				sub := t.subscribe(d, s)
				t.publish(d, to(s), "a", "b", "c")
				t.hold(sub, 1)
				idle := queue(fmt.Sprintf("%s-%d", t.name("idle"), i), 2)
				t.receivers(t.subscribe(d, idle), 1)
			}
			err := t.within(closing, "Close", d.Close)
			if err != nil {
				t.errorf("closing: %v", err)
			}
		},
	},
	{
		ID:    "lifecycle/frozen",
		Rule:  "While the broker stands still every method comes back when its ctx ends; so does Close, which ends all that waits.",
		Hooks: WithFreeze,
		run: func(t *trial) {
			const soon = 500 * time.Millisecond
			d, s, sub := t.subscribed(1)
			other := queue(t.name("other"), 1)
			t.freeze()
			t.is(t.within(soon, "Declare", func(ctx context.Context) error { return d.Declare(ctx, other) }), context.DeadlineExceeded, "Declare")
			t.is(t.within(soon, "Subscribe", func(ctx context.Context) error {
				_, err := d.Subscribe(ctx, other)
				return err
			}), context.DeadlineExceeded, "Subscribe")
			t.is(t.within(soon, "Receive", func(ctx context.Context) error {
				_, err := sub.Receive(ctx)
				return err
			}), context.DeadlineExceeded, "Receive")
			receiving := t.receivers(sub, 1)
			publishing := make(chan error, 1)
			t.spawn(func() { publishing <- d.Publish(t.ctx, to(s), text("m")...) })
			_ = t.within(2*soon, "Close", d.Close) // it may say that ctx ended
			t.is(wait(t, receiving, "Receive returns"), adapters.ErrClosed, "Receive while the driver was closed")
			err := wait(t, publishing, "Publish returns")
			if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrClosed) && !errors.Is(err, adapters.ErrUnavailable) {
				t.errorf("Publish while the driver was closed: the error is %v", err)
			}
		},
	},
}

// receivers starts goroutines that wait in Receive, each for one message, which
// must not come. It returns where the errors come.
func (t *trial) receivers(sub adapters.Subscription, n int) <-chan error {
	errs := make(chan error, n)
	begun := make(chan struct{}, n)
	for range n {
		t.spawn(func() {
			begun <- struct{}{}
			_, err := sub.Receive(t.ctx)
			errs <- err
		})
	}
	for range n {
		wait(t, begun, "the receivers have begun")
	}
	return errs
}
