package amqp

import (
	"context"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestRepliesGoWhereTheyAreAsked: to a queue, to an exchange with a key, and those that reach
// nobody are counted.
func TestRepliesGoWhereTheyAreAsked(t *testing.T) {
	url := amqptest.URL(t)
	d := connectTo(t, url, func(c *Config) { c.AllowReplyTo = func(string) bool { return true } })
	bus := patterns.New(d)
	defer bus.Close(soon(t))
	function, queue, exchange := unique(t), unique(t)+"-answers", unique(t)+"-exchange"
	_, err := patterns.NewRPC[string, string](bus, function).Serve(soon(t), func(_ context.Context, s string) (string, error) { return s, nil })
	if err != nil {
		t.Fatal(err)
	}
	err = d.Do(ctx, func(ch *amqp091.Channel) error {
		if err := ch.ExchangeDeclare(exchange, "topic", false, true, false, false, nil); err != nil {
			return err
		}
		if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
			return err
		}
		return ch.QueueBind(queue, "answers.#", exchange, false, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	answers := subscribe(t, d, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Passive: true, Prefetch: 1})
	ask := func(replyTo string) {
		t.Helper()
		publish(t, d, adapters.Publication{
			To:         adapters.Endpoint{Kind: adapters.Queue, Name: function},
			Properties: adapters.Properties{ContentType: "application/json", ReplyTo: replyTo, CorrelationID: replyTo},
		}, `"`+replyTo+`"`)
	}
	for _, address := range []string{queue, exchange + "/answers.ours", "/" + queue} {
		ask(address)
		answer, err := answers.Receive(soon(t))
		if err != nil || answer.CorrelationID != address {
			t.Fatalf("reply to %s: %+v, %v", address, answer.Properties, err)
		}
		settle(t, answer, adapters.Ack)
	}
	if n := bus.Stats().LostReplies; n != 0 {
		t.Errorf("%d replies are said to be lost", n)
	}
	for i, address := range []string{"amq.gen-gone", exchange + "/questions", "missing-exchange/key"} {
		ask(address)
		eventually(t, "the reply to "+address+" is counted as lost", func() bool { return bus.Stats().LostReplies == uint64(i+1) })
	}
}

// TestServePassiveWithFewRights: who may only read a queue that somebody else declared, and reply,
// can serve.
func TestServePassiveWithFewRights(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, "clerk", password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, "clerk")
	if err := v.SetPermissions(ctx, "clerk", "^$", `^amq\.default$`, "^desk$"); err != nil {
		t.Fatal(err)
	}
	owner := patterns.New(connectTo(t, v.URL))
	defer owner.Close(soon(t))
	if err := owner.Driver().Declare(ctx, fromQueue("desk", 1)); err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(connectTo(t, v.URLFor("clerk", password)))
	defer bus.Close(soon(t))
	twice := func(_ context.Context, n int) (int, error) { return 2 * n, nil }
	if _, err := patterns.NewRPC[int, int](bus, "desk").Serve(soon(t), twice, patterns.Passive()); err != nil {
		t.Fatal(err)
	}
	if n, err := patterns.NewRPC[int, int](owner, "desk").Call(soon(t), 21); n != 42 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// TestRedriveSendsLettersBackAsTheyCame: also those of somebody else's, once each, in the order
// that they have, and a look before changes nothing.
func TestRedriveSendsLettersBackAsTheyCame(t *testing.T) {
	for _, kind := range []QueueType{Quorum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			d := connect(t, func(c *Config) { c.QueueType = kind })
			bus := patterns.New(d)
			defer bus.Close(soon(t))
			name := unique(t) + string(kind)
			q := patterns.NewWorkQueue[patterns.Raw](bus, name)
			if err := q.Declare(soon(t)); err != nil {
				t.Fatal(err)
			}
			ids, raw := []string{"a", "b", "c"}, plainClient(t, brokerURL(t))
			for _, id := range ids {
				send(t, raw, "", name, amqp091.Publishing{
					MessageId: id, Body: []byte(id), DeliveryMode: amqp091.Persistent, Type: "task", Headers: amqp091.Table{"retries": int32(0)},
				})
				taken, err := q.Get(soon(t))
				if err != nil {
					t.Fatal(err)
				}
				if err := taken.Reject(soon(t), nil); err != nil {
					t.Fatal(err)
				}
			}
			sub, err := q.Work(soon(t), func(context.Context, patterns.Raw) error { return patterns.Reject(nil) })
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				var seen []string
				for letter, err := range q.Dead().Waiting(soon(t)) {
					if err != nil {
						t.Fatal(err)
					}
					seen = append(seen, letter.ID)
				}
				if len(seen) != 3 || seen[0] != "a" || seen[1] != "b" || seen[2] != "c" {
					t.Errorf("a look finds %v", seen)
				}
			}
			if n, err := q.Dead().Redrive(soon(t)); n != 3 || err != nil {
				t.Errorf("%d sent: %v", n, err)
			}
			eventually(t, "all have failed again", func() bool { return bus.Stats().DeadLettered == 6 })
			if err := sub.Stop(soon(t)); err != nil {
				t.Error(err)
			}
			if n, err := q.Dead().Redrive(soon(t)); n != 3 || err != nil {
				t.Errorf("%d sent: %v", n, err)
			}
			for _, id := range ids {
				var got amqp091.Delivery
				err := d.Do(ctx, func(ch *amqp091.Channel) (err error) { got, _, err = ch.Get(name, true); return err })
				delete(got.Headers, "x-delivery-count") // the queue's own
				if err != nil || got.MessageId != id || got.Type != "task" || got.Headers["retries"] != int32(0) || len(got.Headers) != 1 || !got.Timestamp.IsZero() {
					t.Errorf("got %+v, %v", got, err)
				}
			}
		})
	}
}
