package interop

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	wm "github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/patterns"
)

// theirPublisher is a watermill-amqp publisher, closed with the test.
func theirPublisher(t *testing.T, cfg wmamqp.Config) message.Publisher {
	t.Helper()
	p, err := wmamqp.NewPublisher(cfg, wm.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, p) })
	return p
}

// theirSubscription is one of watermill-amqp, closed with the test.
func theirSubscription(t *testing.T, cfg wmamqp.Config, topic string) <-chan *message.Message {
	t.Helper()
	s := theirSubscriber(t, cfg)
	ch, err := s.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// theirTopology declares what a watermill-amqp subscriber would consume.
func theirTopology(t *testing.T, cfg wmamqp.Config, topic string) {
	t.Helper()
	if err := theirSubscriber(t, cfg).SubscribeInitialize(topic); err != nil {
		t.Fatal(err)
	}
}

func theirSubscriber(t *testing.T, cfg wmamqp.Config) *wmamqp.Subscriber {
	t.Helper()
	s, err := wmamqp.NewSubscriber(cfg, wm.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s) })
	return s
}

func closed(t *testing.T, c interface{ Close() error }) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// forThem has our ids where they look for them.
const forThem = "?watermill_uuid=true"

// take returns the next message, acknowledged.
func take(t *testing.T, ch <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-ch:
		if !ok {
			t.Fatal("their subscription ended")
		}
		m.Ack()
		return m
	case <-soon(t).Done():
		t.Fatal("their subscriber got nothing")
	}
	return nil
}

// letters are messages as one writes them, and as one rather does not.
func letters() []*message.Message {
	plain := message.NewMessage(wm.NewUUID(), []byte(`{"dish":"pad thai"}`))
	plain.Metadata.Set("tenant", "blue")
	odd := message.NewMessage("no uuid, but an id: ü", []byte{0, 0xff, '\n'})
	odd.Metadata = message.Metadata{"": "no name", "empty": "", "größe": "x\x00y\n", "CC": "somebody", "x-death": "of old age", "motif-attempt": "7"}
	bare := message.NewMessage(wm.NewUUID(), nil)
	return []*message.Message{plain, odd, bare}
}

// withoutMeaning is m without the metadata that RabbitMQ or Motif would act
// on, and that a publisher of theirs would therefore not set.
func withoutMeaning(m *message.Message) *message.Message {
	m = m.Copy()
	for _, key := range []string{"CC", "x-death", "motif-attempt"} {
		delete(m.Metadata, key)
	}
	return m
}

// A work queue of theirs is a classic queue without arguments. It is used as
// it stands: declared by Motif it would have arguments.
func TestTheirQueue(t *testing.T) {
	url := amqptest.URL(t)
	cfg := wmamqp.NewDurableQueueConfig(url)
	topic := unique(t)
	theirTopology(t, cfg, topic)
	d := connect(t, url+forThem, amqp.Quorum)

	t.Run("to us", func(t *testing.T) {
		theirs := theirPublisher(t, cfg)
		sub := subscribe(t, d, passive(topic))
		for _, m := range letters() {
			m = withoutMeaning(m)
			if err := theirs.Publish(topic, m); err != nil {
				t.Fatal(err)
			}
			got := receive(t, sub)
			same(t, got.Message, m)
			if got.Attempt != 1 || got.Redelivered || got.Transient || got.Key != "" {
				t.Errorf("came with %+v", got)
			}
		}
		if err := sub.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("from us", func(t *testing.T) {
		ch := theirSubscription(t, cfg, topic)
		for _, m := range letters() {
			m = withoutMeaning(m)
			publish(t, d, adapters.Publication{To: at(adapters.Queue, topic), Mandatory: true, Key: "a key"}, m)
			got := take(t, ch)
			if key := got.Metadata["motif-key"]; key != "a key" {
				t.Errorf("the key came as %q", key)
			}
			delete(got.Metadata, "motif-key")
			same(t, got, m)
		}
	})
	t.Run("declared by us", func(t *testing.T) {
		err := d.Declare(soon(t), adapters.Source{Endpoint: at(adapters.Queue, topic)})
		if !errors.Is(err, adapters.ErrMismatch) {
			t.Errorf("Declare: %v, want ErrMismatch", err)
		}
	})
}

// A pubsub of theirs is a durable fanout exchange, and a queue for each
// service that they have a name for.
func TestTheirPubSub(t *testing.T) {
	url := amqptest.URL(t)
	topic := unique(t)
	cfg := wmamqp.NewDurablePubSubConfig(url, wmamqp.GenerateQueueNameTopicNameWithSuffix("kitchen"))
	ch := theirSubscription(t, cfg, topic)
	for _, queueType := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			d := connect(t, url+forThem, queueType)
			inGroup := subscribe(t, d, watermill.FromGroup("bar "+string(queueType))(topic))
			private := subscribe(t, d, watermill.FromFanout(topic))
			for _, m := range letters() {
				m = withoutMeaning(m)
				theirs := theirPublisher(t, cfg)
				if err := theirs.Publish(topic, m); err != nil {
					t.Fatal(err)
				}
				same(t, take(t, ch), m)
				same(t, receive(t, inGroup).Message, m)
				same(t, receive(t, private).Message, m)

				publish(t, d, watermill.ToFanout(topic), m)
				same(t, take(t, ch), m)
				same(t, receive(t, inGroup).Message, m)
				same(t, receive(t, private).Message, m)
			}
		})
	}
}

// A group of ours and a service of theirs share a queue where their generator
// names it as we do.
func TestTheirServiceIsOurGroup(t *testing.T) {
	url := amqptest.URL(t)
	topic := unique(t)
	cfg := wmamqp.NewDurablePubSubConfig(url, func(topic string) string { return topic + ":kitchen" })
	theirTopology(t, cfg, topic)
	d := connect(t, url+forThem, amqp.Quorum)
	src := watermill.FromGroup("kitchen")(topic)
	src.Passive = true
	sub := subscribe(t, d, src)
	m := letters()[0]
	if err := theirPublisher(t, cfg).Publish(topic, m); err != nil {
		t.Fatal(err)
	}
	same(t, receive(t, sub).Message, m)
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	publish(t, d, watermill.ToFanout(topic), m)
	same(t, take(t, theirSubscription(t, cfg, topic)), m)
}

// Their topic configuration routes by patterns, as Topic does.
func TestTheirTopicExchange(t *testing.T) {
	url := amqptest.URL(t)
	exchange := unique(t)
	cfg := wmamqp.NewDurableTopicConfig(url, exchange, exchange+".theirs")
	ch := theirSubscription(t, cfg, "usa.#")
	d := connect(t, url+forThem, amqp.Quorum)
	sub := subscribe(t, d, adapters.Source{Endpoint: at(adapters.Topic, exchange), Group: "ours", Keys: []string{"*.weather"}})
	m := letters()[0]

	theirs := theirPublisher(t, cfg)
	for _, key := range []string{"usa.weather", "europe.north.weather"} { // the second to nobody
		if err := theirs.Publish(key, m); err != nil {
			t.Fatal(err)
		}
	}
	got := receive(t, sub)
	same(t, got.Message, m)
	if got.Key != "usa.weather" {
		t.Errorf("key %q", got.Key)
	}
	same(t, take(t, ch), m)

	publish(t, d, adapters.Publication{To: at(adapters.Topic, exchange), Key: "usa.weather", Mandatory: true}, m)
	got = receive(t, sub)
	same(t, got.Message, m)
	if fromUs := take(t, ch); fromUs.UUID != m.UUID {
		t.Errorf("got %q", fromUs.UUID)
	}
	publish(t, connect(t, url, amqp.Quorum), adapters.Publication{To: at(adapters.Topic, exchange), Key: "usa.weather"}, m)
	if fromUs := take(t, ch); fromUs.UUID != "" || fromUs.Metadata["tenant"] != "blue" {
		t.Errorf("without watermill_uuid they got %q %v", fromUs.UUID, fromUs.Metadata)
	}
	same(t, receive(t, sub).Message, m)
	nothing(t, sub)
}

// Through the patterns: their publisher says no content type, which is taken
// for the bus's own codec; what fails is tried again.
func TestTheirOrdersInAWorkQueue(t *testing.T) {
	type order struct {
		Dish string `json:"dish"`
	}
	url := amqptest.URL(t)
	cfg := wmamqp.NewDurableQueueConfig(url)
	topic := unique(t)
	theirTopology(t, cfg, topic)
	bus := patterns.New(connect(t, url+forThem, amqp.Quorum))
	queue := patterns.NewWorkQueue[order](bus, topic, patterns.Passive())

	seen := make(chan patterns.Delivery, 10)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sub, err := queue.Work(ctx, func(ctx context.Context, o order) error {
		d, _ := patterns.DeliveryFrom(ctx)
		seen <- d
		if o.Dish != "pad thai" {
			t.Errorf("dish %q", o.Dish)
		}
		if d.Attempt == 1 {
			return errors.New("too hot")
		}
		return nil
	}, patterns.Retry(patterns.RetryPolicy{Min: 1}))
	if err != nil {
		t.Fatal(err)
	}
	m := letters()[0]
	if err := theirPublisher(t, cfg).Publish(topic, m); err != nil {
		t.Fatal(err)
	}
	for attempt := 1; attempt <= 2; attempt++ {
		select {
		case d := <-seen:
			if d.ID != m.UUID || d.Attempt != attempt || d.Headers["tenant"] != "blue" {
				t.Errorf("attempt %d came with %+v", attempt, d)
			}
		case <-soon(t).Done():
			t.Fatal("nothing came")
		}
	}
	stop()
	if err := sub.Wait(); err != nil {
		t.Error(err)
	}

	if err := queue.Send(soon(t), order{"soup"}, patterns.Header("tenant", "green")); err != nil {
		t.Fatal(err)
	}
	got := take(t, theirSubscription(t, cfg, topic))
	var o order
	if err := json.Unmarshal(got.Payload, &o); err != nil || o.Dish != "soup" || got.Metadata["tenant"] != "green" || got.UUID == "" {
		t.Errorf("they got %q %q %v, %v", got.UUID, got.Payload, got.Metadata, err)
	}
}

// What waited at the broker, for a delay or a retry, has been dead-lettered by
// RabbitMQ, which says so in a header that their marshaler refuses, each time the message is
// delivered. It offers a hook for that.
func TestTheirMarshalerOnWhatWaited(t *testing.T) {
	url := amqptest.URL(t)
	cfg := wmamqp.NewDurableQueueConfig(url)
	var tables []string
	cfg.Marshaler = wmamqp.DefaultMarshaler{PreprocessDelivery: func(d amqp091.Delivery) amqp091.Delivery {
		for name, value := range d.Headers {
			if _, ok := value.(string); !ok {
				tables = append(tables, name)
				delete(d.Headers, name)
			}
		}
		return d
	}}
	topic := unique(t)
	theirTopology(t, cfg, topic)
	d := connect(t, url+forThem, amqp.Quorum)
	m := letters()[0]
	publish(t, d, adapters.Publication{To: at(adapters.Queue, topic), Delay: 1}, m)
	got := take(t, theirSubscription(t, cfg, topic))
	if got.UUID != m.UUID || got.Metadata["tenant"] != "blue" {
		t.Errorf("got %q %v", got.UUID, got.Metadata)
	}
	if !slices.Equal(tables, []string{"x-death"}) {
		t.Errorf("headers that are no strings: %v", tables)
	}
}
