package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// failureNeeds is what the default treatment of failures takes.
const failureNeeds = adapters.CanDelay | adapters.CanDeadLetter

var (
	errBroken = errors.New("the oven is broken")
	errAgain  = patterns.RetryAfter(0, errBroken) // fails, to be tried again at once
)

var failureCases = []Case{
	{
		ID:    "failure/retried-later",
		Rule:  "A message whose handler fails is tried again, each time after a longer wait, and never before its time.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.Attempt < 4 {
					return errBroken
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 4, Min: 100 * time.Millisecond}))
			t.must(q.Send(t.soon(), "x"), "sending")
			last := wait(t, attempts, "the first attempt")
			for i, least := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
				next := wait(t, attempts, "the next attempt")
				if waited := next.at.Sub(last.at); waited < least {
					t.errorf("attempt %d came after %v, at least %v are to pass", i+2, waited, least)
				}
				last = next
			}
		},
	},
	{
		ID:    "failure/attempts-counted",
		Rule:  "The handler is told which attempt it is: 1, then 2, then 3.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.value == "x" {
					return errAgain
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 3}))
			t.must(q.Send(t.soon(), "x"), "sending")
			same(t, t.tried(attempts, 3), []string{"x 1", "x 2", "x 3"}, "the attempts")
			t.mustDie(q, "3", errBroken.Error())
			t.must(q.Send(t.soon(), "y"), "sending")
			same(t, t.tried(attempts, 1), []string{"y 1"}, "another's attempts")
		},
	},
	{
		ID:    "failure/retry-after",
		Rule:  "With RetryAfter the handler itself says when its message is tried again, and it counts as an attempt.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			const after = 300 * time.Millisecond
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.Attempt == 1 {
					return patterns.RetryAfter(after, errBroken)
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Min: 3 * patience})) // far too late
			t.must(q.Send(t.soon(), "x"), "sending")
			first := wait(t, attempts, "the first attempt")
			second := wait(t, attempts, "the second attempt")
			if waited := second.at.Sub(first.at); waited < after {
				t.errorf("it was tried again after %v, not %v", waited, after)
			}
			same(t, []int{first.Attempt, second.Attempt}, []int{1, 2}, "the attempts")
		},
	},
	{
		ID:    "failure/panic",
		Rule:  "A message whose handler panics is tried again like any other that failed, and the worker goes on.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.value == "bad" {
					panic("out of basil")
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: 100 * time.Millisecond}))
			t.must(q.SendBatch(t.soon(), []string{"bad", "good"}), "sending")
			same(t, t.tried(attempts, 3), []string{"bad 1", "good 1", "bad 2"}, "the attempts")
			t.mustDie(q, "2", "out of basil")
		},
	},
	{
		ID:    "failure/rejected",
		Rule:  "A message that its handler rejects is a dead letter at once, and says why, after how many attempts, where and when it died.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				switch {
				case d.value != "bad":
					return nil
				case d.Attempt == 1:
					return errAgain
				}
				return patterns.Reject(errBroken)
			})
			began := time.Now()
			work(t, q, h)
			t.must(q.Send(t.soon(), "bad"), "sending")
			letter := t.mustDie(q, "2", errBroken.Error())
			same(t, []string{letter.Value, letter.Headers[patterns.HeaderQueue]}, []string{"bad", q.Name()}, "the letter's value, and the queue it died in")
			died, err := time.Parse(time.RFC3339, letter.Headers[patterns.HeaderDiedAt])
			if err != nil || died.Before(began.Add(-time.Second)) || died.After(time.Now().Add(time.Second)) {
				t.errorf("the letter says that it died at %q", letter.Headers[patterns.HeaderDiedAt])
			}
			t.must(q.Send(t.soon(), "good"), "sending")
			same(t, t.tried(attempts, 3), []string{"bad 1", "bad 2", "good 1"}, "the attempts")
		},
	},
	{
		ID:    "failure/undecodable",
		Rule:  "A payload that does not decode, or is of a type that nobody knows, is a dead letter at once, as it came; the handler does not see it, and the queue goes on.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, attempts := handler(func(context.Context, attempt) error { return nil })
			work(t, q, h)
			for payload, contentType := range map[string]string{
				`{"no": "string"}`: patterns.JSON{}.ContentType(),
				`"a string`:        "",
				`"a string"`:       "application/x-unknown",
			} {
				p := to(queue(q.Name(), 1))
				p.ContentType = contentType
				t.must(b.Driver().Publish(t.soon(), p, message.NewMessage("bad", []byte(payload))), "publishing")
				letter, err := patterns.NewWorkQueue[patterns.Raw](b, q.Name()+".dead").Get(t.soon())
				t.must(err, "taking a dead letter")
				same(t, []string{string(letter.Value), letter.ContentType, letter.ID}, []string{payload, contentType, "bad"}, "the letter, its type and its id")
				if letter.Headers[patterns.HeaderReason] == "" {
					t.errorf("the letter %s does not say what it died of", payload)
				}
				t.must(letter.Ack(t.soon()), "acknowledging the letter")
			}
			t.must(q.Send(t.soon(), "good"), "sending")
			same(t, t.tried(attempts, 1), []string{"good 1"}, "what the handler saw")
		},
	},
	{
		ID:    "failure/limit",
		Rule:  "A message that fails every time is tried as often as the policy says, not once more or less, and is a dead letter then.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.value == "bad" {
					return fmt.Errorf("attempt %d failed", d.Attempt)
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond, Max: 100 * time.Millisecond}))
			t.must(q.Send(t.soon(), "bad"), "sending")
			t.mustDie(q, "3", "attempt 3 failed")
			t.must(q.Send(t.soon(), "good"), "sending")
			same(t, t.tried(attempts, 4), []string{"bad 1", "bad 2", "bad 3", "good 1"}, "the attempts")
		},
	},
	{
		ID:    "failure/short-behind-long",
		Rule:  "A message that waits long to be tried again is not in the way of one that waits a short time, nor of new ones.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			var long atomic.Int64
			h, attempts := handler(func(_ context.Context, d attempt) error {
				switch {
				case d.Attempt > 1 || d.value == "new":
					return nil
				case d.value == "long":
					return patterns.RetryAfter(time.Duration(long.Load()), errBroken)
				}
				return patterns.RetryAfter(200*time.Millisecond, errBroken)
			})
			work(t, q, h)
			want := []string{"short 1", "new 1", "short 2", "long 2"}
			for wait := 2 * time.Second; ; wait *= 3 { // a busy broker may come to the short one when the long one is due
				long.Store(int64(wait))
				t.must(q.Send(t.soon(), "long"), "sending")
				same(t, t.tried(attempts, 1), []string{"long 1"}, "the first attempt")
				t.must(q.SendBatch(t.soon(), []string{"short", "new"}), "sending")
				got := t.tried(attempts, 4)
				if slices.Equal(got, want) {
					return
				}
				if wait > 10*time.Second {
					same(t, got, want, "the attempts that followed")
					return
				}
			}
		},
	},
	{
		ID:    "failure/shutdown",
		Rule:  "A message whose handler a shutdown interrupts is back in the queue, and this was no attempt.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			interrupted, causes := make(chan struct{}), make(chan error, 1)
			h, attempts := handler(func(ctx context.Context, d attempt) error {
				if d.Attempt == 1 {
					return errAgain
				}
				close(interrupted)
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			})
			sub := work(t, q, h, patterns.DrainTimeout(50*time.Millisecond))
			t.must(q.Send(t.soon(), "x"), "sending")
			wait(t, interrupted, "the second attempt")
			t.must(sub.Stop(t.soon()), "stopping the subscription")
			t.is(wait(t, causes, "the handler's ctx ends"), patterns.ErrShutdown, "the cause with which the handler's ctx ended")
			next, later := handler(func(context.Context, attempt) error { return nil })
			work(t, patterns.NewWorkQueue[string](t.bus(), q.Name()), next)
			same(t, t.tried(later, 1), []string{"x 2"}, "what another worker got")
			same(t, t.tried(attempts, 2), []string{"x 1", "x 2"}, "what the first worker had got")
			same(t, []uint64{b.Stats().DeadLettered}, []uint64{0}, "dead letters")
		},
	},
	{
		ID:    "failure/session-lost",
		Rule:  "When a session is lost the ctx of the handlers that it delivered to ends, and their messages come again, with no attempt counted and none forgotten.",
		Needs: failureNeeds,
		Hooks: WithCut,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			inHand, causes := make(chan struct{}), make(chan error, 1)
			cut := false
			h, attempts := handler(func(ctx context.Context, d attempt) error {
				switch {
				case d.Attempt == 1:
					return errAgain
				case cut:
					return nil
				}
				cut = true
				close(inHand)
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			})
			work(t, q, h)
			t.must(q.Send(t.soon(), "x"), "sending")
			wait(t, inHand, "the second attempt")
			t.must(t.h.Cut(t.soon()), "cutting the connections")
			t.is(wait(t, causes, "the handler's ctx ends"), adapters.ErrSessionLost, "the cause with which the handler's ctx ended")
			same(t, t.tried(attempts, 3), []string{"x 1", "x 2", "x 2"}, "the attempts")
		},
	},
	{
		ID:    "failure/restart",
		Rule:  "A message that waits to be tried again survives a restart of the broker with its number of attempts, and so do dead letters with their reasons.",
		Needs: failureNeeds | adapters.CanPersist | adapters.CanConfirm,
		Hooks: WithRestart,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error {
				switch {
				case d.value == "bad":
					return patterns.Reject(errBroken)
				case d.Attempt == 1:
					return errAgain
				case d.Attempt == 2:
					return patterns.RetryAfter(time.Second, errBroken)
				}
				return nil
			})
			sub := work(t, q, h)
			t.must(q.SendBatch(t.soon(), []string{"bad", "good"}), "sending")
			same(t, t.tried(attempts, 3), []string{"bad 1", "good 1", "good 2"}, "the attempts before the restart")
			t.await("the message waits for its third attempt", func() bool { return b.Stats().Retried == 2 })
			t.must(sub.Stop(t.soon()), "stopping the worker")
			t.restart()
			b = t.bus()
			q = patterns.NewWorkQueue[string](b, q.Name())
			work(t, q, h)
			same(t, t.tried(attempts, 1), []string{"good 3"}, "the attempt after the restart")
			letter := t.mustDie(q, "1", errBroken.Error())
			same(t, []string{letter.Value}, []string{"bad"}, "the dead letter")
		},
	},
}

// attempt is one call of a handler.
type attempt struct {
	patterns.Delivery
	value string
	at    time.Time
}

// handler returns one that reports each attempt when it comes, and then does as
// result does.
func handler(result func(context.Context, attempt) error) (patterns.Handler[string], <-chan attempt) {
	attempts := make(chan attempt, 100)
	return func(ctx context.Context, value string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		this := attempt{d, value, time.Now()}
		select {
		case attempts <- this:
		case <-ctx.Done(): // nobody expected so many
			return ctx.Err()
		}
		return result(ctx, this)
	}, attempts
}

// tell sends v to who waits for it, until the case is over. There is to be room for what comes
// twice: a handler that waits here holds up the end of the case.
func tell[T any](t *trial, to chan<- T, v T) {
	select {
	case to <- v:
	case <-t.ctx.Done():
	}
}

// tried returns the next n attempts as value and attempt.
func (t *trial) tried(attempts <-chan attempt, n int) (list []string) {
	for range n {
		d := wait(t, attempts, "the next attempt")
		list = append(list, fmt.Sprint(d.value, " ", d.Attempt))
	}
	return list
}

// work has a handler called until the case is over.
func work(t *trial, q *patterns.WorkQueue[string], h patterns.Handler[string], opts ...patterns.WorkOption) *patterns.Subscription {
	sub, err := q.Work(context.WithoutCancel(t.ctx), h, opts...)
	t.must(err, "starting to work")
	return sub
}

// mustDie takes the next dead letter of q, which must come, and checks what it
// says.
func (t *trial) mustDie(q *patterns.WorkQueue[string], attempts, reason string) *patterns.Message[string] {
	letter, err := q.Dead().Get(t.soon())
	t.must(err, "taking a dead letter")
	t.must(letter.Ack(t.soon()), "acknowledging a dead letter")
	same(t, []string{letter.Headers[patterns.HeaderAttempts]}, []string{attempts}, "the letter's number of attempts")
	if got := letter.Headers[patterns.HeaderReason]; !strings.Contains(got, reason) {
		t.errorf("the letter died of %q, not of %q", got, reason)
	}
	return letter
}
