package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// policyCases are about what a message keeps on its ways after a failure, and about
// treatments other than the default one.
var policyCases = []Case{
	{
		ID:    "failure/on-receive",
		Rule:  "With AckOnReceive a message is never handled twice: it is lost with the worker that dies, and given up when the handler fails.",
		Needs: adapters.CanDeadLetter,
		run: func(t *trial) {
			first := t.bus()
			q := patterns.NewWorkQueue[string](first, t.name("orders"))
			began := make(chan struct{})
			h, attempts := handler(func(ctx context.Context, _ attempt) error {
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
			h, later := handler(func(context.Context, attempt) error { return errBroken })
			work(t, q, h, patterns.AckOnReceive(), patterns.OnDrop(func(d patterns.Delivery, err error) {
				tell(t, dropped, fmt.Sprintf("%s: %v", d.Payload, err))
			}))
			t.must(q.SendBatch(t.soon(), []string{"fails", "fails too"}), "sending")
			same(t, t.tried(later, 2), []string{"fails 1", "fails too 1"}, "what the second worker handled")
			same(t, t.tried(attempts, 1), []string{"lost 1"}, "what the first worker handled")
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
			sent := make(chan patterns.Delivery, 10)
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
		Rule:  "In each of its attempts a message has the id, key, headers and other properties with which it was published.",
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
			saw := make(chan string, 10)
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
				same(t, []string{wait(t, saw, "the next attempt")}, []string{want}, fmt.Sprintf("what the handler saw in attempt %d", i+1))
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
			subscribe := func(group string, result error) <-chan attempt {
				h, attempts := handler(func(_ context.Context, d attempt) error {
					if d.Attempt < 3 && d.value == "a" {
						return result
					}
					return nil
				})
				_, err := news.Subscribe(context.WithoutCancel(t.ctx), h, patterns.Group(group))
				t.must(err, "subscribing")
				return attempts
			}
			fails, works := subscribe("fails", errAgain), subscribe("works", nil)
			t.must(news.Publish(t.soon(), "a"), "publishing")
			same(t, t.tried(fails, 3), []string{"a 1", "a 2", "a 3"}, "the attempts of the group that fails")
			t.must(news.Publish(t.soon(), "b"), "publishing")
			same(t, t.tried(works, 2), []string{"a 1", "b 1"}, "the attempts of the other group")
			same(t, t.tried(fails, 1), []string{"b 1"}, "the next attempt of the group that failed")
		},
	},
	{
		ID:    "failure/middleware",
		Rule:  "Middleware wraps every attempt, the bus's outside the subscription's, and what it writes into a message is not in what is tried again.",
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
			h, attempts := handler(func(_ context.Context, d attempt) error {
				order = append(order, fmt.Sprint("attempt ", d.Attempt))
				if d.Attempt == 1 {
					return errAgain
				}
				return nil
			})
			sub := work(t, q, h, wrap("outer"), wrap("inner"))
			t.must(q.Send(t.soon(), "x"), "sending")
			same(t, t.tried(attempts, 2), []string{"x 1", "x 2"}, "the attempts")
			t.must(sub.Stop(t.soon()), "stopping")
			same(t, order, []string{
				"bus", "outer", "inner", "attempt 1", "inner", "outer", "bus",
				"bus", "outer", "inner", "attempt 2", "inner", "outer", "bus",
			}, "what was called")
		},
	},
	{
		ID:    "failure/private",
		Rule:  "A private subscription retries by itself, unnoticed by others, gives up when the policy says, and goes on.",
		Needs: adapters.CanFanout,
		run: func(t *trial) {
			news := patterns.NewPubSub[string](t.bus(), t.name("news"))
			dropped := make(chan string, 10)
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.value == "bad" {
					return errBroken
				}
				return nil
			})
			_, err := news.Subscribe(context.WithoutCancel(t.ctx), h,
				patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: time.Millisecond}),
				patterns.OnDrop(func(d patterns.Delivery, _ error) { tell(t, dropped, fmt.Sprintf("%s %d", d.Payload, d.Attempt)) }))
			t.must(err, "subscribing")
			fine, others := handler(func(context.Context, attempt) error { return nil })
			_, err = news.Subscribe(context.WithoutCancel(t.ctx), fine)
			t.must(err, "subscribing")
			t.must(news.PublishBatch(t.soon(), []string{"bad", "good"}), "publishing")
			same(t, t.tried(attempts, 4), []string{"bad 1", "bad 2", "bad 3", "good 1"}, "its attempts")
			same(t, []string{wait(t, dropped, "OnDrop is called")}, []string{`"bad" 3`}, "what OnDrop got")
			t.must(news.Publish(t.soon(), "last"), "publishing")
			same(t, t.tried(attempts, 1), []string{"last 1"}, "its next attempt")
			same(t, t.tried(others, 3), []string{"bad 1", "good 1", "last 1"}, "the attempts of another subscription")
		},
	},
	{
		ID:    "failure/parked",
		Rule:  "A dead letter whose handler fails stays among the dead letters, with what it died of, and comes again later.",
		Needs: failureNeeds,
		run: func(t *trial) {
			b := t.bus()
			q := patterns.NewWorkQueue[string](b, t.name("orders"))
			h, _ := handler(func(context.Context, attempt) error { return patterns.Reject(errBroken) })
			work(t, q, h)
			t.must(q.Send(t.soon(), "x"), "sending")
			repaired := false
			headers := make(chan string, 10)
			repair, _ := handler(func(_ context.Context, d attempt) error {
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
		ID:    "failure/sent-back",
		Rule:  "A dead letter that is sent back as it was received is the message that it was, with all its attempts before it, and says since when it has been back.",
		Needs: failureNeeds | adapters.CanExpire,
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"))
			h, attempts := handler(func(_ context.Context, d attempt) error { return errBroken })
			work(t, q, h, patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: time.Millisecond}))
			t.must(q.Send(t.soon(), "x", patterns.MessageID("the-id"), patterns.Header("name", "value"), patterns.Type("an-order"),
				patterns.AppID("till"), patterns.TTL(time.Hour)), "sending")
			sends := patterns.NewWorkQueue[patterns.Raw](t.bus(), q.Name())
			for range 2 {
				letter, err := sends.Dead().Get(t.soon())
				t.must(err, "taking the dead letter")
				same(t, []string{letter.Headers[patterns.HeaderAttempts]}, []string{"2"}, "the letter's number of attempts")
				t.must(sends.Send(t.soon(), letter.Value, patterns.AsReceived(letter.Delivery)), "sending it back")
				t.must(letter.Ack(t.soon()), "acknowledging the dead letter")
			}
			first := wait(t, attempts, "the first attempt")
			for i, attempt := range []int{2, 1, 2, 1, 2} {
				d := wait(t, attempts, "the next attempt")
				if _, err := time.Parse(time.RFC3339, d.Headers[patterns.HeaderSentBackAt]); (err == nil) != (i > 0) {
					t.errorf("try %d says that it was sent back %q", i+2, d.Headers[patterns.HeaderSentBackAt])
				}
				delete(d.Headers, patterns.HeaderSentBackAt)
				if d.Attempt != attempt || d.value != "x" || d.ID != "the-id" || d.Type != "an-order" || d.AppID != "till" || d.ContentType != first.ContentType ||
					!d.PublishedAt.Equal(first.PublishedAt) || !maps.Equal(d.Headers, map[string]string{"name": "value"}) {
					t.errorf("attempt %d came as %q %+v, after %+v", attempt, d.value, d.Delivery, first.Delivery)
				}
			}
		},
	},
	{
		ID:    "failure/dead-at-the-broker",
		Rule:  "A message that the broker itself made a dead letter of has all its attempts before it, wherever it is handled next.",
		Needs: failureNeeds | adapters.CanPassive,
		run: func(t *trial) {
			b, s := t.bus(), queue(t.name("orders"), 1)
			s.Queue.DeadLetter = t.name("parked")
			t.must(b.Driver().Declare(t.soon(), s), "declaring a queue with dead letters of the broker's")
			policy := patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: time.Millisecond})
			h, attempts := handler(func(context.Context, attempt) error { return errBroken })
			q := patterns.NewWorkQueue[string](b, s.Name, patterns.Passive())
			work(t, q, h, policy)
			next, later := handler(func(_ context.Context, d attempt) error {
				if d.Attempt == 1 {
					return errBroken
				}
				return nil
			})
			work(t, patterns.NewWorkQueue[string](b, s.Queue.DeadLetter, patterns.Passive()), next, policy)
			t.must(q.Send(t.soon(), "x"), "sending")
			same(t, t.tried(attempts, 2), []string{"x 1", "x 2"}, "its attempts")
			same(t, t.tried(later, 2), []string{"x 1", "x 2"}, "those of the dead letter")
		},
	},
	{
		ID:   "failure/no-letters",
		Rule: "What is given up in a queue without dead letters is given to OnDrop and gone, and the queue goes on.",
		run: func(t *trial) {
			q := patterns.NewWorkQueue[string](t.bus(), t.name("orders"), patterns.NoDeadLetter())
			dropped := make(chan string, 10)
			h, attempts := handler(func(_ context.Context, d attempt) error {
				if d.value == "bad" {
					return errBroken
				}
				return nil
			})
			work(t, q, h, patterns.NoRetry(), patterns.OnDrop(func(d patterns.Delivery, err error) { tell(t, dropped, fmt.Sprintf("%s: %v", d.Payload, err)) }))
			t.must(q.SendBatch(t.soon(), []string{"bad", "good"}), "sending")
			same(t, t.tried(attempts, 2), []string{"bad 1", "good 1"}, "the attempts")
			same(t, []string{wait(t, dropped, "OnDrop is called")}, []string{`"bad": ` + errBroken.Error()}, "what OnDrop got")
		},
	},
}
