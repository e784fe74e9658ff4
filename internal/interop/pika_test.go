package interop

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/patterns"
)

type order struct {
	Dish string `json:"dish"`
}

const (
	padThai     = `{"dish":"pad thai"}`
	contentType = "application/json"
)

// works returns the deliveries of a subscription that acknowledges all.
type works func(context.Context, patterns.Handler[order]) (*patterns.Subscription, error)

func (w works) start(t *testing.T) (next func() patterns.Delivery, stop func()) {
	t.Helper()
	got := make(chan patterns.Delivery, 100)
	ctx, cancel := context.WithCancel(t.Context())
	sub, err := w(ctx, func(ctx context.Context, o order) error {
		d, _ := patterns.DeliveryFrom(ctx)
		if o.Dish != "pad thai" {
			t.Errorf("got %+v", o)
		}
		got <- d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	next = func() patterns.Delivery {
		t.Helper()
		select {
		case d := <-got:
			return d
		case <-soon(t).Done():
			t.Fatal("nothing came")
		}
		return patterns.Delivery{}
	}
	stop = func() {
		t.Helper()
		cancel()
		if err := sub.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(cancel)
	return next, stop
}

// A queue of somebody else's, with arguments that Motif would never give it.
func TestQueueOfPika(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	queue := unique(t)
	p.do(t, "queue_declare", with{"queue": queue, "durable": true, "arguments": with{
		"x-max-length": 2, "x-overflow": "reject-publish", "x-queue-mode": "lazy", "x-message-ttl": 600000,
	}})
	orders := patterns.NewWorkQueue[order](patterns.New(connect(t, url, amqp.Quorum)), queue, patterns.Passive())

	t.Run("to us", func(t *testing.T) {
		next, stop := works(func(ctx context.Context, h patterns.Handler[order]) (*patterns.Subscription, error) {
			return orders.Work(ctx, h)
		}).start(t)
		p.publish(t, "", queue, padThai, nil)
		if d := next(); d.ID != "" || d.Attempt != 1 || d.ContentType != "" || d.Key != "" || !d.PublishedAt.IsZero() || len(d.Headers) != 0 {
			t.Errorf("the barest message came with %+v", d)
		}
		p.publish(t, "", queue, padThai, with{
			"content_type": contentType + "; charset=utf-8", "message_id": "7", "timestamp": 1767323045, "priority": 3,
			"app_id": "till", "type": "order", "headers": with{"tenant": "blue"},
		})
		d := next()
		if d.ID != "7" || d.Priority != 3 || !d.PublishedAt.Equal(time.Unix(1767323045, 0)) || !maps.Equal(d.Headers, map[string]string{"tenant": "blue"}) {
			t.Errorf("a full message came with %+v", d)
		}
		stop()
	})
	t.Run("from us", func(t *testing.T) {
		before := time.Now().Unix()
		if err := orders.Send(soon(t), order{"pad thai"}, patterns.MessageID("8"), patterns.Header("tenant", "blue")); err != nil {
			t.Fatal(err)
		}
		got := p.get(t, queue)
		if string(got.Body) != padThai || got.Exchange != "" || got.Key != queue {
			t.Errorf("pika got %+v", got)
		}
		if at := got.Properties.Timestamp; at < before || at > time.Now().Unix() {
			t.Errorf("timestamp %d", at)
		}
		got.Properties.Timestamp = 0
		want := properties{
			ContentType: contentType, MessageID: "8", DeliveryMode: 2,
			Headers: map[string]any{"tenant": "blue"},
		}
		if !reflect.DeepEqual(got.Properties, want) {
			t.Errorf("properties %+v, want %+v", got.Properties, want)
		}
	})
	t.Run("full", func(t *testing.T) {
		for range 2 {
			if err := orders.Send(soon(t), order{"pad thai"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := orders.Send(soon(t), order{"pad thai"}); !errors.Is(err, adapters.ErrNacked) {
			t.Errorf("one too many: %v, want ErrNacked", err)
		}
		for range 2 {
			p.get(t, queue)
		}
	})
	t.Run("somebody else's alone", func(t *testing.T) {
		mine := unique(t)
		p.do(t, "queue_declare", with{"queue": mine, "exclusive": true})
		_, err := patterns.NewWorkQueue[order](patterns.New(connect(t, url, amqp.Quorum)), mine, patterns.Passive()).Get(soon(t))
		if !errors.Is(err, amqp.ErrInUse) {
			t.Errorf("a queue that is pika's alone: %v, want ErrInUse", err)
		}
	})
}

// Exchanges of all three kinds, such as Motif would declare them and such as it
// never would, to and from queues of pika's own and of ours.
func TestExchangesOfPika(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	for name, own := range map[string]with{
		"like ours": {"durable": true},
		"its own":   {"durable": false, "auto_delete": true, "arguments": with{"alternate-exchange": "amq.fanout"}},
	} {
		for _, c := range []struct {
			kind                adapters.Kind
			keys                []string // that we bind, and pika
			key, misses, toBoth string   // to reach us alone, nobody, and both
		}{
			{adapters.Fanout, nil, "", "", "ignored"},
			{adapters.Direct, []string{"error", "warning"}, "warning", "info", "error"},
			{adapters.Topic, []string{"usa.#", "error"}, "usa.weather", "europe", "error"},
		} {
			t.Run(name+"/"+c.kind.String(), func(t *testing.T) {
				exchange := unique(t)
				declare := maps.Clone(own)
				declare["exchange"], declare["exchange_type"] = exchange, c.kind.String()
				p.do(t, "exchange_declare", declare)
				queue := exchange + ".pika"
				p.do(t, "queue_declare", with{"queue": queue, "durable": true, "arguments": with{"x-max-length": 5}})
				p.do(t, "queue_bind", with{"queue": queue, "exchange": exchange, "routing_key": "error"})

				d := connect(t, url, amqp.Quorum)
				ours := at(c.kind, exchange)
				private := subscribe(t, d, adapters.Source{Endpoint: ours, Keys: c.keys})
				group := subscribe(t, d, adapters.Source{Endpoint: ours, Keys: c.keys, Group: "us"})
				theirs := subscribe(t, d, passive(queue))
				wants := func(key string, subs ...adapters.Subscription) {
					t.Helper()
					for _, sub := range subs {
						got := receive(t, sub)
						if string(got.Message.Payload) != padThai || got.Key != key {
							t.Errorf("got %q with key %q, want key %q", got.Message.Payload, got.Key, key)
						}
					}
				}

				p.publish(t, exchange, c.toBoth, padThai, nil)
				wants(c.toBoth, private, group, theirs)
				if c.misses != "" {
					p.publish(t, exchange, c.misses, padThai, nil)
					p.publish(t, exchange, c.key, padThai, nil)
					wants(c.key, private, group)
				}
				if err := theirs.Stop(); err != nil {
					t.Error(err)
				}

				key := c.toBoth
				if c.kind == adapters.Fanout {
					key = "" // ours has none
				}
				publish(t, d, adapters.Publication{To: ours, Key: key, Mandatory: true}, letters()[0])
				wants(key, private, group)
				if got := p.get(t, queue); string(got.Body) != padThai || got.Exchange != exchange || got.Key != key {
					t.Errorf("pika got %+v", got)
				}
			})
		}
	}
}

// Values that headers can have come as text, whatever they are, and go on as they came.
func TestOddHeaders(t *testing.T) {
	want := map[string]string{
		"int": "42", "negative": "-1", "big": "1099511627776", "float": "1.5", "true": "true", "false": "false",
		"text": "ü\n", "empty": "", "bytes": "\x00\xff", "timestamp": "2026-01-02T03:04:05Z", "none": "", "decimal": "12.345",
		"list": `[1,"two",null,["0.5"]]`, "table": `{"a":1,"b":{"c":[true,"raw"]}}`,
	}
	url := amqptest.URL(t)
	p := newPeer(t, url)
	for _, queueType := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			queue := unique(t)
			orders := patterns.NewWorkQueue[order](patterns.New(connect(t, url, queueType)), queue)
			if err := orders.Declare(soon(t)); err != nil {
				t.Fatal(err)
			}
			got := make(chan patterns.Delivery, 10)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			sub, err := orders.Work(ctx, func(ctx context.Context, _ order) error {
				d, _ := patterns.DeliveryFrom(ctx)
				got <- d
				if d.Attempt == 1 {
					return errors.New("once more")
				}
				return patterns.Reject(errors.New("enough"))
			}, patterns.Retry(patterns.RetryPolicy{Min: 1}))
			if err != nil {
				t.Fatal(err)
			}
			p.publish(t, "", queue, padThai, with{"headers": "odd"})
			mirror := unique(t)
			p.do(t, "queue_declare", with{"queue": mirror, "durable": true})
			p.publish(t, "", mirror, padThai, with{"headers": "odd"})
			for attempt := range 2 {
				select {
				case d := <-got:
					if d.Attempt != attempt+1 || !maps.Equal(d.Headers, want) {
						t.Errorf("attempt %d came with headers\n%q, want\n%q", d.Attempt, d.Headers, want)
					}
				case <-soon(t).Done():
					t.Fatal("nothing came")
				}
			}
			dead, sent := p.get(t, orders.Dead().Name()), p.get(t, mirror)
			for key, value := range sent.Properties.Headers {
				if got := dead.Properties.Headers[key]; !reflect.DeepEqual(got, value) {
					t.Errorf("the dead letter has %s=%v, want %v", key, got, value)
				}
			}
			if len(sent.Properties.Headers) != len(want) {
				t.Errorf("sent with %v", sent.Properties.Headers)
			}
			stop()
			if err := sub.Wait(); err != nil {
				t.Error(err)
			}
			if len(got) > 0 {
				t.Errorf("it came again: %+v", <-got)
			}
		})
	}
}

// TestForwardedThroughTheDoor: a watermill Router that passes messages on passes on all that they
// came with.
func TestForwardedThroughTheDoor(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	d := connect(t, url, "")
	in, out := unique(t)+".in", unique(t)+".out"
	sub := watermill.NewSubscriber(d, watermill.SubscriberConfig{From: watermill.FromQueue})
	for _, topic := range []string{in, out} {
		if err := sub.SubscribeInitialize(topic); err != nil {
			t.Fatal(err)
		}
	}
	router, err := message.NewRouter(message.RouterConfig{}, wm.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	router.AddHandler("forward", in, sub, out, watermill.NewPublisher(d, watermill.ToQueue), message.PassthroughHandler)
	ran := make(chan error)
	go func() { ran <- router.Run(t.Context()) }()
	<-router.Running()
	mirror := unique(t)
	p.do(t, "queue_declare", with{"queue": mirror, "durable": true})
	for _, properties := range []with{
		nil,
		{"headers": "odd"},
		{
			"headers": "odd", "content_type": "text/plain", "content_encoding": "gzip", "type": "order", "app_id": "till", "user_id": "guest",
			"cluster_id": "c", "correlation_id": "c", "reply_to": "r", "message_id": "m", "timestamp": 1767323045, "priority": 3, "expiration": "60000",
			"delivery_mode": 2,
		},
	} {
		for _, queue := range []string{in, mirror} {
			p.publish(t, "", queue, "\x00body", properties)
		}
		got, want := p.get(t, out), p.get(t, mirror)
		got.Key = want.Key
		delete(got.Properties.Headers, "x-delivery-count") // with which a quorum queue of 3.10 begins
		if len(got.Properties.Headers) == 0 {
			got.Properties.Headers = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v was forwarded as\n%+v, want\n%+v", properties, got, want)
		}
	}
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
}

// What is no JSON goes to the dead letters at once, with the reason, and is in
// nobody's way.
func TestNoJSON(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	queue := unique(t)
	orders := patterns.NewWorkQueue[order](patterns.New(connect(t, url, amqp.Quorum)), queue)
	next, stop := works(func(ctx context.Context, h patterns.Handler[order]) (*patterns.Subscription, error) {
		return orders.Work(ctx, h)
	}).start(t)
	for _, m := range []struct {
		body string
		with with
	}{
		{"not json", nil},
		{"", with{"content_type": contentType, "message_id": "7"}},
		{padThai, with{"content_type": "application/x-unheard-of"}},
	} {
		p.publish(t, "", queue, m.body, m.with)
		p.publish(t, "", queue, padThai, nil)
		next()
		dead := p.get(t, queue+".dead")
		h := dead.Properties.Headers
		if string(dead.Body) != m.body || h["motif-queue"] != queue || h["motif-attempts"] != "1" || h["motif-reason"] == nil {
			t.Errorf("the dead letter of %q is %q, with %v", m.body, dead.Body, h)
		}
		if _, err := time.Parse(time.RFC3339Nano, h["motif-died-at"].(string)); err != nil {
			t.Error(err)
		}
	}
	stop()
}
