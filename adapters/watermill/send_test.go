package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
)

var toQ = adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "q"}}

// TestPublishErrors: what failed may be stored, unless it is certain that it
// is not; the others are sent.
func TestPublishErrors(t *testing.T) {
	pub := &fakePublisher{publish: func(_ string, m *message.Message) error {
		switch m.UUID {
		case "b":
			return errFake
		case "d":
			return fmt.Errorf("a door: %w", adapters.ErrNacked)
		}
		return nil
	}}
	d := newDriver(t, watermill.Config{Publisher: pub})
	msgs := append(messages("a", "b", "c", "d"), nil)
	forged := message.NewMessage("forged", nil)
	forged.Metadata.Set(watermill.MetadataAttempt, "7")
	err := d.Publish(t.Context(), toQ, append(msgs, forged)...)
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		t.Fatalf("%v, want a PublishError", err)
	}
	byIndex := map[int]error{}
	for _, f := range failed.Failed {
		byIndex[f.Index] = f.Err
	}
	if got := slices.Sorted(maps.Keys(byIndex)); !slices.Equal(got, []int{1, 3, 4, 5}) {
		t.Fatalf("failed: %v", err)
	}
	if err := byIndex[1]; !errors.Is(err, adapters.ErrUnconfirmed) || !errors.Is(err, errFake) {
		t.Errorf("an unknown failure: %v", err)
	}
	if err := byIndex[3]; !errors.Is(err, adapters.ErrNacked) || errors.Is(err, adapters.ErrUnconfirmed) {
		t.Errorf("a certain failure: %v", err)
	}
	for _, i := range []int{4, 5} {
		if !errors.Is(byIndex[i], adapters.ErrInvalid) {
			t.Errorf("message %d: %v", i, byIndex[i])
		}
	}
	if n := pub.sent.Load(); n != 4 {
		t.Errorf("%d messages were sent, want 4", n)
	}
}

// TestFailuresAreInOrder: of the call, also those that are found before
// anything is sent.
func TestFailuresAreInOrder(t *testing.T) {
	d := newDriver(t, watermill.Config{Publisher: &fakePublisher{publish: func(string, *message.Message) error { return errFake }}})
	err := d.Publish(t.Context(), toQ, messages("a")[0], nil, messages("c")[0])
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || !slices.IsSortedFunc(failed.Failed, func(a, b adapters.FailedMessage) int { return a.Index - b.Index }) {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestPublishHonoursItsContext: though watermill's Publish has none. What is
// under way is unconfirmed, what was not begun is not sent.
func TestPublishHonoursItsContext(t *testing.T) {
	for name, end := range map[string]func(d *watermill.Driver, cancel func()){
		"ctx":   func(_ *watermill.Driver, cancel func()) { cancel() },
		"Close": func(d *watermill.Driver, _ func()) { go closeDriver(t, d) },
	} {
		t.Run(name, func(t *testing.T) {
			stuck, free := make(chan context.Context), make(chan struct{})
			pub := &fakePublisher{publish: func(_ string, m *message.Message) error {
				if m.UUID == "b" {
					stuck <- m.Context()
					<-free
				}
				return nil
			}}
			d := newDriver(t, watermill.Config{Publisher: pub})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				ctx := <-stuck
				end(d, cancel)
				if name == "ctx" {
					<-ctx.Done() // the pair may heed it
				}
			}()
			err := d.Publish(ctx, toQ, messages("a", "b", "c")...)
			close(free)
			failed, ok := errors.AsType[*adapters.PublishError](err)
			if !ok || len(failed.Failed) != 2 {
				t.Fatalf("%v, want b and c to have failed", err)
			}
			if f := failed.Failed[0]; f.Index != 1 || !errors.Is(f.Err, adapters.ErrUnconfirmed) {
				t.Errorf("under way: %+v", f)
			}
			if f := failed.Failed[1]; f.Index != 2 || errors.Is(f.Err, adapters.ErrUnconfirmed) {
				t.Errorf("not begun: %+v", f)
			}
			if err := d.Close(t.Context()); err != nil { // waits for what is under way
				t.Fatal(err)
			}
			if n := pub.sent.Load(); n != 2 {
				t.Errorf("%d messages were sent, want 2", n)
			}
		})
	}
}

// TestPropertiesTravel: all there are, in metadata that the receiver does not
// see, and the publisher's message is left as it was.
func TestPropertiesTravel(t *testing.T) {
	full := adapters.Properties{
		ContentType: "text/plain", CorrelationID: "c", ReplyTo: "r", Attempt: 3, Transient: true,
		Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	for name, c := range map[string]struct {
		p    adapters.Publication
		keys int
	}{
		"all":  {adapters.Publication{To: toQ.To, Key: "k", Properties: full}, 7},
		"none": {toQ, 1}, // the time
	} {
		s := newFakeSubscriber()
		pub := &fakePublisher{publish: func(topic string, m *message.Message) error {
			if topic != "q" || len(m.Metadata) != c.keys+1 {
				t.Errorf("%s: published to %q with %v", name, topic, m.Metadata)
			}
			s.queue <- m
			return nil
		}}
		d := newDriver(t, watermill.Config{Publisher: pub, Subscriber: s})
		m := message.NewMessage("a", []byte("payload"))
		m.Metadata.Set("motif-reason", "somebody else's")
		before := time.Now()
		if err := d.Publish(t.Context(), c.p, m); err != nil {
			t.Fatal(err)
		}
		m.Payload[0] = 'X' // the publisher's to reuse
		got := receive(t, subscribe(t, d, 1))
		want := c.p.Properties
		want.Attempt = max(want.Attempt, 1)
		if want.Timestamp.IsZero() && !got.Timestamp.Before(before) {
			want.Timestamp = got.Timestamp
		}
		if got.Properties != want || got.Key != c.p.Key {
			t.Errorf("%s: received %q %+v, want %+v", name, got.Key, got.Properties, want)
		}
		if plain := got.Message; plain.UUID != "a" || string(plain.Payload) != "payload" || len(plain.Metadata) != 1 || len(m.Metadata) != 1 {
			t.Errorf("%s: received %+v of %+v", name, plain, m)
		}
	}
}

// TestForeignMessages: there is nothing in the metadata, or nonsense.
func TestForeignMessages(t *testing.T) {
	s := newFakeSubscriber()
	d := newDriver(t, watermill.Config{Subscriber: s})
	sub := subscribe(t, d, 1)
	bare, nonsense := &message.Message{UUID: "bare"}, message.NewMessage("nonsense", nil)
	nonsense.Metadata[watermill.MetadataAttempt] = "-5"
	nonsense.Metadata[watermill.MetadataTimestamp] = "yesterday"
	for _, m := range []*message.Message{bare, nonsense} {
		s.queue <- m
		got := receive(t, sub)
		if got.Message.UUID != m.UUID || got.Properties != (adapters.Properties{Attempt: 1}) || got.Message.Metadata == nil || len(got.Message.Metadata) > 0 {
			t.Errorf("%s: received %+v, %v", m.UUID, got.Properties, got.Message.Metadata)
		}
		if err := got.Settle(t.Context(), adapters.Ack); err != nil {
			t.Error(err)
		}
	}
}
