package amqp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestPolicies: a policy for all queues, as an operator sets one who knows of no delays, loses
// nothing that is delayed and leads nothing astray, or the delay is refused.
func TestPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		definition string
		operator   bool
	}{
		"message-ttl":                            {`{"message-ttl": 500}`, false},
		"message-ttl of an operator policy":      {`{"message-ttl": 500}`, true},
		"max-length, the oldest dropped":         {`{"max-length": 2, "overflow": "drop-head"}`, false},
		"dead-letter-exchange":                   {`{"dead-letter-exchange": "theirs"}`, false},
		"dead-letter-exchange and the overflow":  {`{"dead-letter-exchange": "theirs", "overflow": "drop-head"}`, false},
		"at-most-once":                           {`{"dead-letter-strategy": "at-most-once"}`, false},
		"delivery-limit":                         {`{"delivery-limit": 1}`, false},
		"expires, with messages on their way":    {`{"expires": 60000}`, false},
		"alternate-exchange, max-length-bytes":   {`{"alternate-exchange": "theirs", "max-length-bytes": 100000}`, false},
		"delivery-limit of an operator's policy": {`{"delivery-limit": 1}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := amqptest.Shared(t)
			setPolicy(t, v, c.definition, c.operator)
			theirs := subscribe(t, connectTo(t, v.URL, func(c *Config) { c.QueueType = Classic }), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "theirs"}, Prefetch: 100})
			bus := patterns.New(usesAtOnce(connectTo(t, v.URL)))
			defer bus.Close(ctx)
			const delay = 3300 * time.Millisecond
			type came struct {
				what  string
				after time.Duration
			}
			got := make(chan came, 10)
			start := time.Now()
			var tried time.Time
			q := patterns.NewWorkQueue[string](bus, "q", patterns.NoDeadLetter())
			_, err := q.Work(ctx, func(ctx context.Context, s string) error {
				if d, _ := patterns.DeliveryFrom(ctx); s == "retried" && d.Attempt == 1 {
					tried = time.Now()
					return patterns.RetryAfter(delay, errors.New("once"))
				}
				if s == "retried" {
					got <- came{s, time.Since(tried)}
				} else {
					got <- came{s, time.Since(start)}
				}
				return nil
			}, patterns.Workers(8))
			if err != nil {
				t.Fatal(err)
			}
			news := patterns.NewTopic[string](bus, "news")
			if _, err := news.Subscribe(ctx, []string{"a.#"}, func(ctx context.Context, s string) error {
				if d, _ := patterns.DeliveryFrom(ctx); d.Key != "a.b" {
					t.Errorf("%s came with the key %q", s, d.Key)
				}
				got <- came{s, time.Since(start)}
				return nil
			}, patterns.Group("g"), patterns.NoDeadLetter(), patterns.Workers(8)); err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"one", "two", "three"} {
				if err := q.Send(soon(t), s, patterns.Delay(delay)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(q.Send(soon(t), "retried"), news.Publish(soon(t), "a.b", "news", patterns.Delay(delay))); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				select {
				case m := <-got:
					t.Logf("%s after %v", m.what, m.after)
					if m.after < delay-tolerance {
						t.Errorf("%s came after %v, not before %v", m.what, m.after, delay)
					}
				case <-time.After(40 * time.Second):
					t.Fatal("a message is lost")
				}
			}
			nothing(t, theirs)
		})
	}
}

// TestPolicyThatLeadsAstray: where nothing that is delayed would arrive, a delay is refused.
func TestPolicyThatLeadsAstray(t *testing.T) {
	v := amqptest.Shared(t)
	setPolicy(t, v, `{"dead-letter-exchange": "", "dead-letter-routing-key": "letters"}`, false)
	d := connectTo(t, v.URL)
	q := fromQueue("q", 1)
	declare(t, d, q)
	err := d.Publish(soon(t), delayed(toQueue("q"), time.Millisecond), msg("a"))
	wantErr(t, "a delay", err, adapters.ErrUnsupported)
	if !strings.Contains(err.Error(), `the dead-letter-routing-key "letters"`) {
		t.Error(err)
	}
	publish(t, d, toQueue("q"), "b")
	receiveAll(t, subscribe(t, d, q), "b")
}

// TestQueuesOfDelaysThatExpire: what a policy deletes while it is empty is passed, and made again;
// that it is gone is logged.
func TestQueuesOfDelaysThatExpire(t *testing.T) {
	t.Parallel() // it waits most of the time
	v := amqptest.Shared(t)
	setPolicy(t, v, `{"expires": 1000}`, false)
	var log strings.Builder
	d := usesAtOnce(connectTo(t, v.URL, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	x := adapters.Endpoint{Kind: adapters.Topic, Name: "x"}
	q, topic := subscribe(t, d, fromQueue("q", 1)), subscribe(t, d, adapters.Source{Endpoint: x, Group: "g", Keys: []string{"a.*"}, Prefetch: 1})
	send := func(id string) {
		t.Helper()
		publish(t, d, delayed(toQueue("q"), time.Millisecond), id)
		receiveAll(t, q, id)
		publish(t, d, delayed(byLadder(toQueue("q")), time.Millisecond), id)
		if m := receive(t, q, id); m.Key != "a.key" {
			t.Errorf("%s came with the key %q", id, m.Key)
		} else {
			settle(t, m, adapters.Ack)
		}
		publish(t, d, delayed(adapters.Publication{To: x, Key: "a.b"}, time.Millisecond), id)
		if m := receive(t, topic, id); m.Key != "a.b" {
			t.Errorf("%s came with the key %q", id, m.Key)
		} else {
			settle(t, m, adapters.Ack)
		}
	}
	send("first")
	queues := []string{rungName(0)}
	for _, to := range []string{"queue.q", "exchange.x"} {
		queues = append(queues, destinationQueue(to), delayQueueName(1, to))
	}
	gone(t, d, queues...)
	send("past what is missing")
	for _, name := range []string{rungName(0), delayQueueName(1, "queue.q"), delayQueueName(1, "exchange.x")} {
		if !strings.Contains(log.String(), "a queue for delayed messages is gone, with what waited in it: was it deleted, or expired by a policy?\" queue="+name) {
			t.Errorf("logged: %s", log.String())
		}
	}
	// Published by a driver that believes that all is there.
	gone(t, d, queues...)
	conn := d.publisher.current()
	conn.mu.Lock()
	conn.ladderChecked = time.Now()
	for name, q := range conn.delayQueues {
		q.checked = conn.ladderChecked
		conn.delayQueues[name] = q
	}
	conn.mu.Unlock()
	send("past what is missing, unnoticed")
}

// TestPolicyThatExpiresDelays: where the management API tells of a policy that would delete what
// is delayed, a delay is refused, for as long as there is one.
func TestPolicyThatExpiresDelays(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	node := amqptest.Private(t, amqptest.Options{Management: true})
	setPolicy(t, node.VHost, `{"expires": 3600000}`, false)
	d := usesAtOnce(connectTo(t, node.URL, func(c *Config) { c.Management = node.ManagementURL() }))
	q := fromQueue("q", 1)
	declare(t, d, q)
	send := func() error {
		return d.Publish(soon(t), delayed(toQueue("q"), time.Millisecond), msg("a"))
	}
	var err error
	eventually(t, "the API tells of the policy", func() bool {
		err = send()
		return err != nil
	})
	wantErr(t, "a delay", err, adapters.ErrUnsupported)
	if !strings.Contains(err.Error(), "no consumer for 1h0m0s") {
		t.Error(err)
	}
	publish(t, d, toQueue("q"), "b") // which is not delayed
	setPolicy(t, node.VHost, `{"max-length": 100000}`, false)
	eventually(t, "the policy is gone", func() bool { return send() == nil })
}

// gone waits until queues have expired.
func gone(t *testing.T, d *Driver, names ...string) {
	t.Helper()
	for _, name := range names {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
			err := d.Do(soon(t), func(ch *amqp091.Channel) error {
				_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
				return err
			})
			if err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("queue %s is still there", name)
			}
		}
	}
}

// setPolicy sets the policy of a virtual host for all that is in it.
func setPolicy(t *testing.T, v *amqptest.VHost, definition string, operator bool) {
	t.Helper()
	if err := v.SetPolicy(ctx, ".*", definition, operator); err != nil {
		t.Fatal(err)
	}
}
