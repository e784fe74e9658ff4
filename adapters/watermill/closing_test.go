package watermill_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestCloseWaitsForWhatIsInHand: a handler that is nearly done is not asked
// to do it all again.
func TestCloseWaitsForWhatIsInHand(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a", "b")
		m := b.next(msgs, "a")
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if err := b.sub.Close(); err != nil {
				t.Error(err)
			}
		}()
		<-m.Context().Done()
		if m, ok := <-msgs; ok {
			t.Errorf("got %v of a closed subscriber", m)
		}
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for the message in hand")
		default:
		}
		m.Ack()
		<-closed
		b.waiting("topic", "b")
	})
}

func TestCloseGivesBackInTime(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{CloseTimeout: time.Minute}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		b.publish("a")
		m := b.next(msgs, "a")
		start := time.Now()
		if err := b.sub.Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("Close took %v, want a minute", d)
		}
		b.waiting("topic", "a")
		m.Ack() // nobody listens any more
	})
}

// TestSubscribeContextEnds: it ends this subscription only, also one that
// nobody reads from, whose next message goes back.
func TestSubscribeContextEnds(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		ending := b.subscribe(ctx)
		b.publish("a")
		synctest.Wait() // a has been fetched
		other := b.subscribe(t.Context())
		cancel()
		if m, ok := <-ending; ok {
			t.Errorf("got %v after the end", m)
		}
		b.next(other, "a").Ack()
		b.publish("b")
		b.next(other, "b").Ack()
	})
}

// TestNoPhantomMessage: a queue that is deleted gives no empty message.
func TestNoPhantomMessage(t *testing.T) {
	inBubble(t, watermill.SubscriberConfig{}, func(t *testing.T, b *bench) {
		msgs := b.subscribe(t.Context())
		synctest.Wait()
		if err := b.broker.DeleteQueue("topic"); err != nil {
			t.Fatal(err)
		}
		b.nothing(msgs)
		b.publish("a") // the subscription has healed
		b.next(msgs, "a").Ack()
	})
}

// TestDriverEndsTheSubscription: the handler is told, what is in hand can be
// acked, and the log says why.
func TestDriverEndsTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := &latePair{free: make(chan struct{}), m: messages("a")[0]}
		close(pair.free)
		d := newDriver(t, watermill.Config{Subscriber: pair})
		log := wm.NewCaptureLogger()
		sub := watermill.NewSubscriber(d, watermill.SubscriberConfig{From: watermill.FromQueue, Prefetch: 2, Logger: log})
		msgs, err := sub.Subscribe(t.Context(), "topic")
		if err != nil {
			t.Fatal(err)
		}
		m := <-msgs
		pair.hangUp()
		if m, ok := <-msgs; ok {
			t.Errorf("got %v of a subscription that has ended", m)
		}
		<-m.Context().Done()
		if cause := context.Cause(m.Context()); !errors.Is(cause, adapters.ErrUnavailable) || !log.HasError(cause) {
			t.Errorf("the cause is %v, the log %v", cause, log.Captured())
		}
		m.Ack()
		<-pair.m.Acked()
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	})
}
