package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
			h, tries := handler(func(_ context.Context, d try) error {
				if d.Attempt < 4 {
					return errBroken
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 4, Min: 100 * time.Millisecond}))
			t.must(q.Send(t.soon(), "x"), "sending")
			last := wait(t, tries, "the first try")
			for i, least := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
				next := wait(t, tries, "the next try")
				if waited := next.at.Sub(last.at); waited < least {
					t.errorf("try %d came after %v, at least %v are to pass", i+2, waited, least)
				}
				last = next
			}
		},
	},
	{
		ID:    "failure/attempts-counted",
		Rule:  "The handler is told which try it is: 1, then 2, then 3.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
				if d.value == "x" {
					return errAgain
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 3}))
			t.must(q.Send(t.soon(), "x"), "sending")
			same(t, t.tried(tries, 3), []string{"x 1", "x 2", "x 3"}, "the tries")
			t.mustDie(q, "3", errBroken.Error())
			t.must(q.Send(t.soon(), "y"), "sending")
			same(t, t.tried(tries, 1), []string{"y 1"}, "another's tries")
		},
	},
	{
		ID:    "failure/retry-after",
		Rule:  "With RetryAfter the handler itself says when its message is tried again, and it counts as a try.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			const after = 300 * time.Millisecond
			h, tries := handler(func(_ context.Context, d try) error {
				if d.Attempt == 1 {
					return patterns.RetryAfter(after, errBroken)
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Min: 3 * patience})) // far too late
			t.must(q.Send(t.soon(), "x"), "sending")
			first := wait(t, tries, "the first try")
			second := wait(t, tries, "the second try")
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
			h, tries := handler(func(_ context.Context, d try) error {
				if d.value == "bad" {
					panic("out of basil")
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: 100 * time.Millisecond}))
			t.must(q.SendBatch(t.soon(), []string{"bad", "good"}), "sending")
			same(t, t.tried(tries, 3), []string{"bad 1", "good 1", "bad 2"}, "the tries")
			t.mustDie(q, "2", "out of basil")
		},
	},
	{
		ID:    "failure/rejected",
		Rule:  "A message that its handler rejects is a dead letter at once, and says why, after how many tries, where and when it died.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
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
			same(t, t.tried(tries, 3), []string{"bad 1", "bad 2", "good 1"}, "the tries")
		},
	},
	{
		ID:    "failure/undecodable",
		Rule:  "A payload that does not decode, or is of a type that nobody knows, is a dead letter at once, as it came; the handler does not see it, and the queue goes on.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, tries := handler(func(context.Context, try) error { return nil })
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
			same(t, t.tried(tries, 1), []string{"good 1"}, "what the handler saw")
		},
	},
	{
		ID:    "failure/limit",
		Rule:  "A message that fails every time is tried as often as the policy says, not once more or less, and is a dead letter then.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
				if d.value == "bad" {
					return fmt.Errorf("try %d failed", d.Attempt)
				}
				return nil
			})
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond, Max: 100 * time.Millisecond}))
			t.must(q.Send(t.soon(), "bad"), "sending")
			t.mustDie(q, "3", "try 3 failed")
			t.must(q.Send(t.soon(), "good"), "sending")
			same(t, t.tried(tries, 4), []string{"bad 1", "bad 2", "bad 3", "good 1"}, "the tries")
		},
	},
	{
		ID:    "failure/short-behind-long",
		Rule:  "A message that waits long to be tried again is not in the way of one that waits a short time, nor of new ones.",
		Needs: failureNeeds,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
				switch {
				case d.Attempt > 1 || d.value == "new":
					return nil
				case d.value == "long":
					return patterns.RetryAfter(2*time.Second, errBroken)
				}
				return patterns.RetryAfter(200*time.Millisecond, errBroken)
			})
			work(t, q, h)
			t.must(q.Send(t.soon(), "long"), "sending")
			same(t, t.tried(tries, 1), []string{"long 1"}, "the first try")
			t.must(q.SendBatch(t.soon(), []string{"short", "new"}), "sending")
			same(t, t.tried(tries, 4), []string{"short 1", "new 1", "short 2", "long 2"}, "the tries that followed")
		},
	},
	{
		ID:    "failure/shutdown",
		Rule:  "A message whose handler a shutdown interrupts is back in the queue, and this was no try.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			interrupted, causes := make(chan struct{}), make(chan error, 1)
			h, tries := handler(func(ctx context.Context, d try) error {
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
			wait(t, interrupted, "the second try")
			t.must(sub.Stop(t.soon()), "stopping the subscription")
			t.is(wait(t, causes, "the handler's ctx ends"), patterns.ErrShutdown, "the cause with which the handler's ctx ended")
			next, later := handler(func(context.Context, try) error { return nil })
			work(t, patterns.NewWorkQueue[string](t.bus(), q.Name()), next)
			same(t, t.tried(later, 1), []string{"x 2"}, "what another worker got")
			same(t, t.tried(tries, 2), []string{"x 1", "x 2"}, "what the first worker had got")
			same(t, []uint64{b.Stats().DeadLettered}, []uint64{0}, "dead letters")
		},
	},
	{
		ID:    "failure/session-lost",
		Rule:  "When a session is lost the ctx of the handlers that it delivered to ends, and their messages come again, with no try counted and none forgotten.",
		Needs: failureNeeds,
		Hooks: WithCut,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			inHand, causes := make(chan struct{}), make(chan error, 1)
			cut := false
			h, tries := handler(func(ctx context.Context, d try) error {
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
			wait(t, inHand, "the second try")
			t.must(t.h.Cut(t.soon()), "cutting the connections")
			t.is(wait(t, causes, "the handler's ctx ends"), adapters.ErrSessionLost, "the cause with which the handler's ctx ended")
			same(t, t.tried(tries, 3), []string{"x 1", "x 2", "x 2"}, "the tries")
		},
	},
	{
		ID:    "failure/restart",
		Rule:  "A message that waits to be tried again survives a restart of the broker with its number of tries, and so do dead letters with their reasons.",
		Needs: failureNeeds | adapters.CanPersist | adapters.CanConfirm,
		Hooks: WithRestart,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
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
			same(t, t.tried(tries, 3), []string{"bad 1", "good 1", "good 2"}, "the tries before the restart")
			t.await("the message waits for its third try", func() bool { return b.Stats().Retried == 2 })
			t.must(sub.Stop(t.soon()), "stopping the worker")
			t.must(t.h.Restart(t.ctx), "restarting the broker")
			b = t.bus()
			q = patterns.NewWorkQueue[string](b, q.Name())
			work(t, q, h)
			same(t, t.tried(tries, 1), []string{"good 3"}, "the try after the restart")
			letter := t.mustDie(q, "1", errBroken.Error())
			same(t, []string{letter.Value}, []string{"bad"}, "the dead letter")
		},
	},
	{
		ID:    "failure/on-receive",
		Rule:  "With AckOnReceive a message is never handled twice: it is lost with the worker that dies, and given up when the handler fails.",
		Needs: adapters.CanDeadLetter,
		run: func(t *trial) {
			first := t.bus()
			q := patterns.NewWorkQueue[string](first, t.name("orders"))
			began := make(chan struct{})
			h, tries := handler(func(ctx context.Context, _ try) error {
				close(began)
				<-ctx.Done()
				return ctx.Err()
			})
			sub := work(t, q, h, patterns.AckOnReceive())
			t.must(q.Send(t.soon(), "lost"), "sending")
			wait(t, began, "the first worker has it")
			t.must(first.Driver().Close(t.soon()), "closing the worker's client")
			wait(t, sub.Done(), "the first worker ends")

			second := t.bus()
			q = patterns.NewWorkQueue[string](second, q.Name())
			dropped := make(chan string, 10)
			h, later := handler(func(context.Context, try) error { return errBroken })
			work(t, q, h, patterns.AckOnReceive(), patterns.OnDrop(func(d patterns.Delivery, err error) {
				tell(t, dropped, fmt.Sprintf("%s: %v", d.Payload, err))
			}))
			t.must(q.SendBatch(t.soon(), []string{"fails", "fails too"}), "sending")
			same(t, t.tried(later, 2), []string{"fails 1", "fails too 1"}, "what the second worker handled")
			same(t, t.tried(tries, 1), []string{"lost 1"}, "what the first worker handled")
			for _, want := range []string{`"fails": ` + errBroken.Error(), `"fails too": ` + errBroken.Error()} {
				same(t, []string{wait(t, dropped, "OnDrop is called")}, []string{want}, "what OnDrop got")
			}
			same(t, []uint64{second.Stats().Retried}, []uint64{0}, "retries")
		},
	},
	{
		ID:    "failure/letter-intact",
		Rule:  "A dead letter has the value, id, key, headers, content type and time of the message that died.",
		Needs: failureNeeds | adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			b, name := t.bus(), t.name("logs")
			logs := patterns.NewRouted[string](b, name)
			sent := make(chan patterns.Delivery)
			_, err := logs.Subscribe(context.WithoutCancel(t.ctx), []string{"disk.full"}, func(ctx context.Context, _ string) error {
				d, _ := patterns.DeliveryFrom(ctx)
				tell(t, sent, d)
				return patterns.Reject(errBroken)
			}, patterns.Group("keep"))
			t.must(err, "subscribing")
			t.must(logs.Publish(t.soon(), "disk.full", "no room", patterns.MessageID("letter-1"), patterns.Header("host", "zürich"), patterns.Header("empty", "")), "publishing")
			was := wait(t, sent, "the message is handled")
			letter, err := patterns.NewWorkQueue[string](b, name+":keep.dead").Get(t.soon())
			t.must(err, "taking the dead letter")
			same(t,
				[]string{letter.Value, letter.ID, letter.Key, letter.Headers["host"], letter.ContentType},
				[]string{"no room", "letter-1", "disk.full", "zürich", was.ContentType}, "value, id, key, a header, content type")
			if _, there := letter.Headers["empty"]; !there {
				t.errorf("an empty header is gone")
			}
			if apart := letter.PublishedAt.Sub(was.PublishedAt).Abs(); apart > time.Second {
				t.errorf("the letter was published at %v, the message at %v", letter.PublishedAt, was.PublishedAt)
			}
			t.must(letter.Ack(t.soon()), "acknowledging the letter")
		},
	},
	{
		ID:    "failure/retry-intact",
		Rule:  "In each of its tries a message has the id, key, headers and other properties with which it was published.",
		Needs: failureNeeds | adapters.CanRoute | adapters.CanGroup,
		run: func(t *trial) {
			d, s := t.connect(), group(adapters.Direct, t.name("logs"), "keep", "disk.full")
			p := to(s)
			p.Key, p.Properties = "disk.full", adapters.Properties{
				ContentType: patterns.JSON{}.ContentType(), CorrelationID: "c-1", ReplyTo: "nobody", Transient: true,
				Timestamp: time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC),
			}
			msg := message.NewMessage("m-1", []byte(`"no room"`))
			msg.Metadata["host"] = "zürich"
			want := fmt.Sprint("m-1 disk.full zürich ", p.ContentType, p.Timestamp.Unix())
			saw := make(chan string)
			_, err := patterns.NewRouted[string](t.bus(), s.Name).Subscribe(context.WithoutCancel(t.ctx), s.Keys, func(ctx context.Context, _ string) error {
				d, _ := patterns.DeliveryFrom(ctx)
				tell(t, saw, fmt.Sprint(d.ID, " ", d.Key, " ", d.Headers["host"], " ", d.ContentType, d.PublishedAt.Unix()))
				switch d.Attempt {
				case 1:
					return errAgain
				case 2:
					return patterns.RetryAfter(100*time.Millisecond, errBroken)
				}
				return patterns.Reject(errBroken)
			}, patterns.Group(s.Group))
			t.must(err, "subscribing")
			t.must(d.Publish(t.soon(), p, msg), "publishing")
			for i := range 3 {
				same(t, []string{wait(t, saw, "the next try")}, []string{want}, fmt.Sprintf("what the handler saw in try %d", i+1))
			}
			letter := t.receive(t.subscribe(d, queue(s.QueueName()+".dead", 1)))
			t.settle(letter, adapters.Ack)
			same(t, []string{letter.CorrelationID, letter.ReplyTo}, []string{p.CorrelationID, p.ReplyTo}, "correlation id and reply address at the end")
			same(t, []bool{letter.Transient}, []bool{true}, "whether it is transient at the end")
		},
	},
	{
		ID:    "failure/group-alone",
		Rule:  "A message that one group failed to handle is tried again by that group alone.",
		Needs: failureNeeds | adapters.CanFanout | adapters.CanGroup,
		run: func(t *trial) {
			news := patterns.NewPubSub[string](t.bus(), t.name("news"))
			subscribe := func(group string, result error) <-chan try {
				h, tries := handler(func(_ context.Context, d try) error {
					if d.Attempt < 3 && d.value == "a" {
						return result
					}
					return nil
				})
				_, err := news.Subscribe(context.WithoutCancel(t.ctx), h, patterns.Group(group))
				t.must(err, "subscribing")
				return tries
			}
			fails, works := subscribe("fails", errAgain), subscribe("works", nil)
			t.must(news.Publish(t.soon(), "a"), "publishing")
			same(t, t.tried(fails, 3), []string{"a 1", "a 2", "a 3"}, "the tries of the group that fails")
			t.must(news.Publish(t.soon(), "b"), "publishing")
			same(t, t.tried(works, 2), []string{"a 1", "b 1"}, "the tries of the other group")
			same(t, t.tried(fails, 1), []string{"b 1"}, "the next try of the group that failed")
		},
	},
	{
		ID:    "failure/middleware",
		Rule:  "Middleware wraps every try, the bus's outside the subscription's, and what it writes into a message is not in what is tried again.",
		Needs: failureNeeds,
		run: func(t *trial) {
			var order []string // only the one worker writes
			wrap := func(name string) patterns.MiddlewareOption {
				return patterns.WithMiddleware(func(next message.HandlerFunc) message.HandlerFunc {
					return func(m *message.Message) ([]*message.Message, error) {
						if was := m.Metadata.Get("seen"); strings.Contains(was, name) {
							order = append(order, "marked already: "+was)
						}
						m.Metadata.Set("seen", m.Metadata.Get("seen")+name)
						order = append(order, name)
						produced, err := next(m)
						order = append(order, name)
						return produced, err
					}
				})
			}
			b := t.bus(wrap("bus"))
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, tries := handler(func(_ context.Context, d try) error {
				order = append(order, fmt.Sprint("try ", d.Attempt))
				if d.Attempt == 1 {
					return errAgain
				}
				return nil
			})
			sub := work(t, q, h, wrap("outer"), wrap("inner"))
			t.must(q.Send(t.soon(), "x"), "sending")
			same(t, t.tried(tries, 2), []string{"x 1", "x 2"}, "the tries")
			t.must(sub.Stop(t.soon()), "stopping")
			same(t, order, []string{
				"bus", "outer", "inner", "try 1", "inner", "outer", "bus",
				"bus", "outer", "inner", "try 2", "inner", "outer", "bus",
			}, "what was called")
		},
	},
	{
		ID:    "failure/private",
		Rule:  "A private subscription tries again on its own, unnoticed by others, gives up when the policy says, and goes on.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			news := patterns.NewPubSub[string](t.bus(), t.name("news"))
			dropped := make(chan string, 10)
			h, tries := handler(func(_ context.Context, d try) error {
				if d.value == "bad" {
					return errBroken
				}
				return nil
			})
			_, err := news.Subscribe(context.WithoutCancel(t.ctx), h,
				patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: time.Millisecond}),
				patterns.OnDrop(func(d patterns.Delivery, _ error) { tell(t, dropped, fmt.Sprintf("%s %d", d.Payload, d.Attempt)) }))
			t.must(err, "subscribing")
			fine, others := handler(func(context.Context, try) error { return nil })
			_, err = news.Subscribe(context.WithoutCancel(t.ctx), fine)
			t.must(err, "subscribing")
			t.must(news.PublishBatch(t.soon(), []string{"bad", "good"}), "publishing")
			same(t, t.tried(tries, 4), []string{"bad 1", "bad 2", "bad 3", "good 1"}, "its tries")
			same(t, []string{wait(t, dropped, "OnDrop is called")}, []string{`"bad" 3`}, "what OnDrop got")
			t.must(news.Publish(t.soon(), "last"), "publishing")
			same(t, t.tried(tries, 1), []string{"last 1"}, "its next try")
			same(t, t.tried(others, 3), []string{"bad 1", "good 1", "last 1"}, "the tries of another subscription")
		},
	},
	{
		ID:    "failure/parked",
		Rule:  "A dead letter whose handler fails stays among the dead letters, with what it died of, and comes again later.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, _ := handler(func(context.Context, try) error { return patterns.Reject(errBroken) })
			work(t, q, h)
			t.must(q.Send(t.soon(), "x"), "sending")
			repaired := false
			headers := make(chan string)
			repair, _ := handler(func(_ context.Context, d try) error {
				tell(t, headers, d.Headers[patterns.HeaderReason]+"; "+d.Headers[patterns.HeaderRepair])
				if !repaired {
					repaired = true
					return errors.New("no spare parts")
				}
				return nil
			})
			work(t, q.Dead(), repair, patterns.Retry(patterns.RetryPolicy{Attempts: 1, Min: 100 * time.Millisecond, Max: 100 * time.Millisecond}))
			same(t, []string{wait(t, headers, "the dead letter is handled")}, []string{errBroken.Error() + "; "}, "what it says")
			same(t, []string{wait(t, headers, "it comes again")}, []string{errBroken.Error() + "; no spare parts"}, "what it says then")
		},
	},
	{
		ID:   "failure/no-letters",
		Rule: "What is given up in a queue without dead letters is told to OnDrop and gone, and the queue goes on.",
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"), patterns.NoDeadLetter())
			dropped := make(chan string, 10)
			h, tries := handler(func(_ context.Context, d try) error {
				if d.value == "bad" {
					return errBroken
				}
				return nil
			})
			work(t, q, h, patterns.NoRetry(), patterns.OnDrop(func(d patterns.Delivery, err error) { tell(t, dropped, fmt.Sprintf("%s: %v", d.Payload, err)) }))
			t.must(q.SendBatch(t.soon(), []string{"bad", "good"}), "sending")
			same(t, t.tried(tries, 2), []string{"bad 1", "good 1"}, "the tries")
			same(t, []string{wait(t, dropped, "OnDrop is called")}, []string{`"bad": ` + errBroken.Error()}, "what OnDrop got")
		},
	},
}

// try is one call of a handler.
type try struct {
	patterns.Delivery
	value string
	at    time.Time
}

// handler returns one that tells of each try when it comes, and then does as
// result does.
func handler(result func(context.Context, try) error) (patterns.Handler[string], <-chan try) {
	tries := make(chan try, 100)
	return func(ctx context.Context, value string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		this := try{d, value, time.Now()}
		select {
		case tries <- this:
		case <-ctx.Done(): // nobody expected so many
			return ctx.Err()
		}
		return result(ctx, this)
	}, tries
}

// tell sends v to who waits for it, until the case is over.
func tell[T any](t *trial, to chan<- T, v T) {
	select {
	case to <- v:
	case <-t.ctx.Done():
	}
}

// tried returns the next n tries as value and attempt.
func (t *trial) tried(tries <-chan try, n int) (list []string) {
	for range n {
		d := wait(t, tries, "the next try")
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
func (t *trial) mustDie(q *patterns.WorkQueue[string], attempts, reason string) *patterns.Taken[string] {
	letter, err := q.Dead().Get(t.soon())
	t.must(err, "taking a dead letter")
	t.must(letter.Ack(t.soon()), "acknowledging a dead letter")
	same(t, []string{letter.Headers[patterns.HeaderAttempts]}, []string{attempts}, "the letter's number of tries")
	if got := letter.Headers[patterns.HeaderReason]; !strings.Contains(got, reason) {
		t.errorf("the letter died of %q, not of %q", got, reason)
	}
	return letter
}
