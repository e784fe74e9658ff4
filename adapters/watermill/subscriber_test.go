package watermill_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

// bench is a broker with both ends of a door to one of its queues, in a
// synctest bubble.
type bench struct {
	t      *testing.T
	broker *memory.Broker
	client *memory.Client
	pub    *watermill.Publisher
	sub    *watermill.Subscriber
}

func inBubble(t *testing.T, cfg watermill.SubscriberConfig, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		broker, client := connect(t)
		if cfg.From == nil {
			cfg.From = watermill.FromQueue
		}
		b := &bench{t, broker, client, watermill.NewPublisher(client, watermill.ToQueue), watermill.NewSubscriber(client, cfg)}
		test(t, b)
		if err := b.sub.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (b *bench) subscribe(ctx context.Context) <-chan *message.Message {
	b.t.Helper()
	msgs, err := b.sub.Subscribe(ctx, "topic")
	if err != nil {
		b.t.Fatal(err)
	}
	return msgs
}

func (b *bench) publish(uuids ...string) {
	b.t.Helper()
	if err := b.pub.Publish("topic", messages(uuids...)...); err != nil {
		b.t.Fatal(err)
	}
}

// next returns the next message, which must come at once and be this one.
func (b *bench) next(msgs <-chan *message.Message, uuid string) *message.Message {
	b.t.Helper()
	synctest.Wait()
	select {
	case m, ok := <-msgs:
		if !ok || m.UUID != uuid {
			b.t.Fatalf("got %v, %t, want %s", m, ok, uuid)
		}
		return m
	default:
		b.t.Fatalf("nothing came, want %s", uuid)
		return nil
	}
}

// nothing checks that no message comes, nor the channel is closed.
func (b *bench) nothing(msgs <-chan *message.Message) {
	b.t.Helper()
	synctest.Wait()
	select {
	case m, ok := <-msgs:
		b.t.Fatalf("got %v, %t, want nothing", m, ok)
	default:
	}
}

// waiting checks what is left in the queue, at its head.
func (b *bench) waiting(queue string, uuids ...string) {
	b.t.Helper()
	synctest.Wait()
	src := adapters.Source{Endpoint: endpoint(adapters.Queue, queue), Passive: true}
	for _, uuid := range uuids {
		d, err := b.client.Get(b.t.Context(), src)
		if err != nil || d.Message.UUID != uuid {
			b.t.Fatalf("queue %q has %v, %v, want %s", queue, d.Message, err, uuid)
		}
	}
	if d, err := b.client.Get(b.t.Context(), src); !errors.Is(err, adapters.ErrEmpty) {
		b.t.Fatalf("queue %q has %v, %v, want nothing more", queue, d.Message, err)
	}
}

func TestNackedComesAgainFirst(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a", "b")
		for i := range 3 {
			m := b.next(msgs, "a")
			if d, ok := watermill.DeliveryFrom(m.Context()); !ok || d.Redelivered != (i > 0) || d.Attempt != 1 {
				t.Errorf("attempt %d: %+v, %t", i, d, ok)
			}
			b.nothing(msgs)
			m.Nack()
		}
		b.next(msgs, "a").Ack()
		b.next(msgs, "b").Ack()
		b.nothing(msgs)
		b.waiting("topic")
	})
}

func TestPrefetchIsWhatIsInHand(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{Prefetch: 2}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a", "b", "c")
		b.next(msgs, "a")
		second := b.next(msgs, "b")
		b.nothing(msgs)
		second.Ack()
		b.next(msgs, "c").Ack()
		b.nothing(msgs)
	})
}

func TestMessageContext(t *testing.T) {
	type key struct{}
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(context.WithValue(t.Context(), key{}, "value"))
		b.publish("a", "b", "c")
		for _, settle := range []func(*message.Message) bool{(*message.Message).Nack, (*message.Message).Ack} {
			m := b.next(msgs, "a")
			if m.Context().Value(key{}) != "value" || m.Context().Err() != nil {
				t.Errorf("value %v, %v", m.Context().Value(key{}), m.Context().Err())
			}
			settle(m)
			<-m.Context().Done()
		}
		b.next(msgs, "b").Ack()
		last := b.next(msgs, "c")
		if err := b.client.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-last.Context().Done()
		if cause := context.Cause(last.Context()); !errors.Is(cause, adapters.ErrClosed) {
			t.Errorf("the driver was closed, but the cause is %v", cause)
		}
		if m, ok := <-msgs; ok {
			t.Errorf("got %v of a closed driver", m)
		}
	})
}

// TestSessionLost: the handler learns of it, and the message comes again, but
// not while the handler is still at it.
func TestSessionLost(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a", "b")
		m := b.next(msgs, "a")
		b.broker.Cut()
		<-m.Context().Done()
		if cause := context.Cause(m.Context()); !errors.Is(cause, adapters.ErrSessionLost) {
			t.Errorf("the cause is %v", cause)
		}
		b.nothing(msgs)
		m.Ack() // too late
		b.next(msgs, "a").Ack()
		b.next(msgs, "b").Ack()
		b.nothing(msgs)
		b.waiting("topic")
	})
}

func TestNackRejects(t *testing.T) {
	cfg := watermill.SubscriberConfig{NackRejects: true, From: withDeadLetter}
	inBubble(t, cfg, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		msgs := b.subscribe(ctx)
		b.publish("a", "b", "c")
		b.next(msgs, "a").Nack()
		b.waiting("dead", "a")
		m := b.next(msgs, "b")
		cancel()
		<-m.Context().Done()
		m.Nack() // the handler was interrupted
		b.waiting("topic", "b", "c")
	})
}

func withDeadLetter(topic string) adapters.Source {
	src := watermill.FromQueue(topic)
	src.Queue.DeadLetter = "dead"
	return src
}

func TestNackDelay(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{NackDelay: time.Hour}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a", "b")
		m := b.next(msgs, "a")
		m.Payload[0], m.Payload = 'X', []byte("changed by the handler")
		m.Metadata.Set("changed", "yes")
		m.Nack()
		b.next(msgs, "b").Ack()
		time.Sleep(time.Hour - 1)
		b.nothing(msgs)
		time.Sleep(time.Nanosecond)
		m = b.next(msgs, "a")
		if d, _ := watermill.DeliveryFrom(m.Context()); d.Attempt != 2 {
			t.Errorf("attempt %d, want 2", d.Attempt)
		}
		if string(m.Payload) != "payload of a" || len(m.Metadata) > 0 {
			t.Errorf("came again as %q, %v", m.Payload, m.Metadata)
		}
		m.Ack()
		b.nothing(msgs)
	})
}

// TestNackDelayFailing: where the copy cannot be stored the original goes
// back, after the delay: no hot loop.
func TestNackDelayFailing(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{NackDelay: time.Minute}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a")
		b.broker.Inject(memory.Fault{On: memory.OnPublish, Do: memory.Refuse, Times: 1})
		b.next(msgs, "a").Nack()
		time.Sleep(time.Minute - 1)
		b.nothing(msgs)
		time.Sleep(time.Nanosecond)
		b.next(msgs, "a").Ack()
		b.nothing(msgs)
	})
}

func TestSubscribeInitializeKeeps(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		if err := b.sub.SubscribeInitialize("topic"); err != nil {
			t.Fatal(err)
		}
		b.publish("a")
		b.next(b.subscribe(t.Context()), "a").Ack()
	})
}

func TestSubscribeRefuses(t *testing.T) {
	_, client := connect(t)
	poor := newDriver(t, watermill.Config{Adapter: "poor"})
	for name, c := range map[string]struct {
		driver adapters.Driver
		cfg    watermill.SubscriberConfig
		want   error
	}{
		"no driver":                    {nil, watermill.SubscriberConfig{From: watermill.FromQueue}, adapters.ErrInvalid},
		"no route":                     {client, watermill.SubscriberConfig{}, adapters.ErrInvalid},
		"negative prefetch":            {client, watermill.SubscriberConfig{From: watermill.FromQueue, Prefetch: -1}, adapters.ErrInvalid},
		"negative delay":               {client, watermill.SubscriberConfig{From: watermill.FromQueue, NackDelay: -1}, adapters.ErrInvalid},
		"negative timeout":             {client, watermill.SubscriberConfig{From: watermill.FromQueue, CloseTimeout: -1}, adapters.ErrInvalid},
		"delay and reject":             {client, watermill.SubscriberConfig{From: watermill.FromQueue, NackDelay: 1, NackRejects: true}, adapters.ErrInvalid},
		"delay of a private source":    {client, watermill.SubscriberConfig{From: watermill.FromFanout, NackDelay: 1}, adapters.ErrInvalid},
		"delay where there is none":    {poor, watermill.SubscriberConfig{From: watermill.FromQueue, NackDelay: 1}, adapters.ErrUnsupported},
		"groups where there are none":  {poor, watermill.SubscriberConfig{From: watermill.FromGroup("g")}, adapters.ErrUnsupported},
		"a group that is no good name": {client, watermill.SubscriberConfig{From: watermill.FromGroup("g:h")}, adapters.ErrInvalid},
	} {
		sub := watermill.NewSubscriber(c.driver, c.cfg)
		if _, err := sub.Subscribe(t.Context(), "topic"); !errors.Is(err, c.want) {
			t.Errorf("%s: Subscribe: %v, want %v", name, err, c.want)
		}
		if err := sub.SubscribeInitialize("topic"); !errors.Is(err, c.want) {
			t.Errorf("%s: SubscribeInitialize: %v, want %v", name, err, c.want)
		}
		if err := sub.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := sub.Subscribe(t.Context(), "topic"); !errors.Is(err, adapters.ErrClosed) {
			t.Errorf("%s: Subscribe after Close: %v", name, err)
		}
	}
}
