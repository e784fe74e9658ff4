package jetstream

import (
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// bindGhost binds a queue that has no stream to an exchange, and returns what to publish to that,
// with a delay, and the subject of the queue's messages.
func bindGhost(t *testing.T, d *Driver, exchange string) (p adapters.Publication, subject string) {
	t.Helper()
	p.To = adapters.Endpoint{Kind: adapters.Fanout, Name: exchange}
	p.Delay = time.Millisecond
	ghost := kit.Bound{Queue: "ghost of " + exchange, ID: "x"}
	if err := d.routes.Bind(t.Context(), p.To, ghost); err != nil {
		t.Fatal(err)
	}
	return p, nameQueue(ghost.Queue).boundSubject(ghost.ID)
}

// What is delayed and refused by a queue when it is due is tried again, after a pause that grows,
// and the log says so.
func TestDelayedIsRefused(t *testing.T) {
	d, log := embedded(t), &lines{}
	d.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	p, subject := bindGhost(t, d, "news")
	refusing(t, d.session.nc, subject, 3)
	words := settlements(t, d.session.nc, delayed.Name)
	if err := d.Publish(t.Context(), p, message.NewMessage("m", nil)); err != nil {
		t.Fatal(err)
	}
	expect(t, words, `-NAK {"delay":100000000}`, `-NAK {"delay":200000000}`, `-NAK {"delay":400000000}`, "+ACK")
	if log.count("was not routed") == 0 {
		t.Error("nothing was logged")
	}
}

// A queue that does not answer holds up no delayed messages for others.
func TestDelayedGoesPastSilentQueues(t *testing.T) {
	d, s := embedded(t), source("other", 1)
	s.Kind, s.Group = adapters.Fanout, "g"
	sub := subscribe(t, d, s)
	p, subject := bindGhost(t, d, "news")
	words := settlements(t, d.session.nc, delayed.Name)
	asked := make(chan *nats.Msg, 1)
	subscribeTo(t, d.session.nc, subject, func(m *nats.Msg) { asked <- m })
	if err := d.Publish(t.Context(), p, message.NewMessage("first", nil)); err != nil {
		t.Fatal(err)
	}
	silent := <-asked
	p.To = s.Endpoint
	if err := d.Publish(t.Context(), p, message.NewMessage("second", nil)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, sub); got.Message.UUID != "second" {
		t.Errorf("got %q", got.Message.UUID)
	}
	if err := silent.Respond([]byte(`{"stream":"MOTIF_Q_ghost","seq":1}`)); err != nil {
		t.Fatal(err)
	}
	expect(t, words, "+ACK", "+ACK")
}
