package amqp

import (
	"errors"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Exchanges of others are used as they stand, whoever comes first, and made
// anew when they are gone. Only the kind has to be right.
func TestForeignExchange(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Direct, Name: unique(t)}
	theirs := func(f func(*amqp091.Channel) error) {
		t.Helper()
		if err := d.Do(soon(t), f); err != nil {
			t.Fatal(err)
		}
	}
	theirs(func(ch *amqp091.Channel) error {
		return ch.ExchangeDeclare(x.Name, "direct", false, true, false, false, amqp091.Table{"alternate-exchange": x.Name + ".other"})
	})
	to := adapters.Publication{To: x, Key: "a"}
	publish(t, d, to, "to nobody")
	private := subscribe(t, d, adapters.Source{Endpoint: x, Keys: []string{"a"}, Prefetch: 1})
	group := adapters.Source{Endpoint: x, Keys: []string{"a"}, Group: "g", Prefetch: 1}
	declare(t, d, group)
	publish(t, d, to, "first")
	receiveAll(t, private, "first")
	got, err := d.Get(soon(t), group)
	if err != nil || got.Message.UUID != "first" {
		t.Fatalf("Get: %+v, %v", got.Message, err)
	}

	// The next session finds it out again, and gets again what was in hand.
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	d.publisher.current().netConn.Abort(errors.New("cut"))
	delayed := to
	delayed.Delay = 1
	publish(t, d, delayed, "second")
	receiveAll(t, subscribe(t, d, group), "first", "second")

	theirs(func(ch *amqp091.Channel) error { return ch.ExchangeDelete(x.Name, false, false) })
	publish(t, d, to, "to nobody")
	theirs(func(ch *amqp091.Channel) error {
		return ch.ExchangeDeclarePassive(x.Name, "direct", true, false, false, false, nil)
	})
	x.Kind = adapters.Topic
	wantErr(t, "Publish to another kind", d.Publish(ctx, adapters.Publication{To: x, Key: "a"}, msg("m")), adapters.ErrMismatch)
}
