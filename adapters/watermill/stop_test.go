package watermill_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestStop: nothing more is received, what is in hand is settled as ever, and
// only then the pair is told to end, which abandons what is in hand.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSubscriber("a", "b")
		d := newDriver(t, watermill.Config{Subscriber: s})
		sub := subscribe(t, d, 2)
		inHand := receive(t, sub)
		waiting := make(chan error)
		go func() {
			_, err := sub.Receive(t.Context())
			waiting <- err
		}()
		for range 2 {
			if err := sub.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-waiting; !errors.Is(err, adapters.ErrStopped) {
			t.Errorf("waiting Receive: %v", err)
		}
		if _, err := sub.Receive(t.Context()); !errors.Is(err, adapters.ErrStopped) {
			t.Errorf("Receive after Stop: %v", err)
		}
		time.Sleep(time.Hour) // the handler takes its time
		if err := inHand.Message.Context().Err(); err != nil {
			t.Errorf("the context of what is in hand ended: %v", err)
		}
		if err := inHand.Settle(t.Context(), adapters.Ack); err != nil {
			t.Errorf("settling after Stop: %v", err)
		}
		s.running.Wait() // the pair's subscription has ended
		if len(s.queue) != 1 {
			t.Errorf("%d messages left, want b", len(s.queue))
		}
	})
}

// TestStopLetsThePairAck: the end of a subscription must not overtake the
// last ack, or the message would come again.
func TestStopLetsThePairAck(t *testing.T) {
	for name, stop := range map[string]func(d *watermill.Driver, sub adapters.Subscription) error{
		"Stop":  func(_ *watermill.Driver, sub adapters.Subscription) error { return sub.Stop() },
		"Close": func(d *watermill.Driver, _ adapters.Subscription) error { return d.Close(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pair := &slowPair{dealtWith: make(chan struct{})}
				d := newDriver(t, watermill.Config{Subscriber: pair})
				sub := subscribe(t, d, 1)
				if err := receive(t, sub).Settle(t.Context(), adapters.Ack); err != nil {
					t.Fatal(err)
				}
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					if err := stop(d, sub); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				if pair.life.Err() != nil {
					t.Error("ended before the pair had dealt with the ack")
				}
				if name == "Stop" {
					close(pair.dealtWith)
					synctest.Wait()
				} else { // and not forever
					time.Sleep(time.Second)
				}
				<-stopped
				if pair.life.Err() == nil {
					t.Error("not ended")
				}
			})
		})
	}
}

// slowPair hands over one message and takes its time to deal with the ack.
type slowPair struct {
	life      context.Context
	dealtWith chan struct{}
}

func (p *slowPair) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	p.life = ctx
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		m := messages("a")[0]
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		m.SetContext(ctx)
		out <- m
		select {
		case <-p.dealtWith:
			cancel()
		case <-p.life.Done():
		}
		<-p.life.Done()
	}()
	return out, nil
}

func (*slowPair) Close() error { return nil }

// TestStopGivesBack: what was fetched and not received.
func TestStopGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSubscriber("a")
		d := newDriver(t, watermill.Config{Subscriber: s})
		sub := subscribe(t, d, 1)
		synctest.Wait() // a is being handed over
		if err := sub.Stop(); err != nil {
			t.Fatal(err)
		}
		s.running.Wait()
		if len(s.queue) != 1 {
			t.Error("a message is gone")
		}
	})
}
