package watermill_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

func connect(t *testing.T) (*memory.Broker, *memory.Client) {
	t.Helper()
	broker := memory.New()
	t.Cleanup(broker.Close)
	return broker, broker.Connect()
}

// recorder notes the UUIDs of each Publish call, and fails messages.
type recorder struct {
	adapters.Driver
	calls [][]string
	fail  map[string]error
}

func (r *recorder) Publish(ctx context.Context, _ adapters.Publication, msgs ...*message.Message) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var uuids []string
	var failed []adapters.FailedMessage
	for i, m := range msgs {
		uuids = append(uuids, m.UUID)
		if err := r.fail[m.UUID]; err != nil {
			failed = append(failed, adapters.FailedMessage{Index: i, UUID: m.UUID, Err: err})
		}
	}
	r.calls = append(r.calls, uuids)
	if failed != nil {
		return &adapters.PublishError{Failed: failed}
	}
	return nil
}

func TestPublisherBatchesWhatEndsTogether(t *testing.T) {
	_, client := connect(t)
	r := &recorder{Driver: client}
	request, cancel := context.WithCancel(t.Context())
	defer cancel()
	type key struct{}
	msgs := messages("a", "b", "c", "d")
	msgs[1].SetContext(request)
	msgs[2].SetContext(context.WithValue(request, key{}, "as a Router does"))
	if err := watermill.NewPublisher(r, watermill.ToFanout).Publish("topic", msgs...); err != nil {
		t.Fatal(err)
	}
	if want := [][]string{{"a"}, {"b", "c"}, {"d"}}; !slices.EqualFunc(r.calls, want, slices.Equal) {
		t.Errorf("published %v, want %v", r.calls, want)
	}
}

func TestPublisherSaysWhichFailed(t *testing.T) {
	_, client := connect(t)
	r := &recorder{Driver: client, fail: map[string]error{"e": adapters.ErrNacked}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	msgs := messages("a", "b", "c", "d", "e")
	msgs[1].SetContext(ended)
	msgs[2].SetContext(ended)
	err := watermill.NewPublisher(r, watermill.ToFanout).Publish("topic", msgs...)
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		t.Fatalf("%v, want a PublishError", err)
	}
	want := []adapters.FailedMessage{
		{Index: 1, UUID: "b", Err: context.Canceled},
		{Index: 2, UUID: "c", Err: context.Canceled},
		{Index: 4, UUID: "e", Err: adapters.ErrNacked},
	}
	if !slices.Equal(failed.Failed, want) {
		t.Errorf("failed: %v, want %v", failed.Failed, want)
	}
	if want := [][]string{{"a"}, {"d", "e"}}; !slices.EqualFunc(r.calls, want, slices.Equal) {
		t.Errorf("published %v, want %v: a failed message stops no other", r.calls, want)
	}
}

func TestPublisherRefuses(t *testing.T) {
	_, client := connect(t)
	var noDriver adapters.Driver
	for name, c := range map[string]struct {
		pub  *watermill.Publisher
		msgs []*message.Message
		want error
	}{
		"no driver":        {watermill.NewPublisher(noDriver, watermill.ToQueue), messages("a"), adapters.ErrInvalid},
		"no route":         {watermill.NewPublisher(client, nil), messages("a"), adapters.ErrInvalid},
		"a nil message":    {watermill.NewPublisher(client, watermill.ToFanout), []*message.Message{nil}, adapters.ErrInvalid},
		"no such queue":    {watermill.NewPublisher(client, watermill.ToQueue), messages("a"), adapters.ErrUnroutable},
		"an ended context": {watermill.NewPublisher(client, watermill.ToFanout), withEnded(t, messages("a")), context.Canceled},
		"a nameless place": {watermill.NewPublisher(client, func(string) adapters.Publication { return adapters.Publication{} }), messages("a"), adapters.ErrInvalid},
		"a closed driver":  {closedPublisher(t), messages("a"), adapters.ErrClosed},
	} {
		if err := c.pub.Publish("topic", c.msgs...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func withEnded(t *testing.T, msgs []*message.Message) []*message.Message {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, m := range msgs {
		m.SetContext(ctx)
	}
	return msgs
}

func closedPublisher(t *testing.T) *watermill.Publisher {
	_, client := connect(t)
	if err := client.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return watermill.NewPublisher(client, watermill.ToFanout)
}

// TestPublisherSurvivesClose: a Router closes it while others still use it.
func TestPublisherSurvivesClose(t *testing.T) {
	_, client := connect(t)
	pub := watermill.NewPublisher(client, watermill.ToFanout)
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("topic", messages("a")...); err != nil {
		t.Error(err)
	}
}
