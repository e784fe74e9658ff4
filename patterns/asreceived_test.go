package patterns_test

import (
	"maps"
	"testing"
	"time"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// TestAsReceived: a message that is sent on is what it was, but for what is said otherwise, and for
// what belongs to its life in a queue.
func TestAsReceived(t *testing.T) {
	bus, broker := newBus(t)
	driver := broker.Connect()
	t.Cleanup(func() { must(t, driver.Close(bounded(t))) })
	raw := patterns.NewWorkQueue[patterns.Raw](bus, "jobs")
	must(t, raw.Declare(bounded(t)))
	source := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "onward"}, Queue: adapters.QueueSpec{MaxPriority: 9, DeadLetter: "onward.dead"}}
	must(t, driver.Declare(bounded(t), source))

	came := adapters.Properties{
		ContentType: "application/x-order", ContentEncoding: "gzip", Type: "order", AppID: "till", CorrelationID: "c", ReplyTo: "r",
		Timestamp: time.Unix(1_700_000_000, 0), TTL: time.Hour, Transient: true, Priority: 3, Foreign: "beside it",
	}
	m := watermill.NewMessage("", []byte("\x00payload"))
	m.Metadata = watermill.Metadata{
		"name": "value", "motif-user-id": "eve", patterns.HeaderReason: "no gas", patterns.HeaderAttempts: "5", "x-death": "jobs rejected 1",
	}
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "jobs"}, Key: "a.key", Properties: came}
	p.Attempt, p.Lost = 4, 2
	must(t, driver.Publish(bounded(t), p, m))
	letter, err := raw.Get(bounded(t))
	must(t, err)
	must(t, letter.Ack(bounded(t)))

	received := letter.Delivery
	headers := map[string]string{"name": "value", "motif-user-id": "eve"}
	onward := patterns.NewWorkQueue[patterns.Raw](bus, "onward", patterns.MaxPriority(9))
	typed := patterns.NewWorkQueue[string](bus, "onward", patterns.MaxPriority(9))
	byHand := patterns.Delivery{ID: "by hand", Key: "another", Type: "t", ContentType: "text/plain", Headers: map[string]string{"a": "b"}}
	changed := letter.Delivery
	changed.ID, changed.Headers = "changed", map[string]string{"c": "d"}
	for _, c := range []struct {
		name             string
		send             func() error
		id, key, payload string
		change           func(*adapters.Properties)
		headers          map[string]string
	}{
		{
			"as it is", func() error { return onward.Send(bounded(t), letter.Value, patterns.AsReceived(received)) },
			"", "a.key", "\x00payload", func(*adapters.Properties) {}, headers,
		},
		{
			"with options, whatever their order", func() error {
				return onward.Send(bounded(t), letter.Value, patterns.Type("another"), patterns.MessageID("id"), patterns.Priority(0),
					patterns.AsReceived(received), patterns.AppID("me"), patterns.TTL(time.Minute), patterns.Header("name", "other"), patterns.Header("more", ""))
			},
			"id", "a.key", "\x00payload",
			func(p *adapters.Properties) { p.Type, p.AppID, p.TTL, p.Priority = "another", "me", time.Minute, 0 },
			map[string]string{"name": "other", "more": "", "motif-user-id": "eve"},
		},
		{
			"changed", func() error { return onward.Send(bounded(t), letter.Value, patterns.AsReceived(changed)) },
			"changed", "a.key", "\x00payload", func(*adapters.Properties) {},
			map[string]string{"c": "d"},
		},
		{
			"repaired", func() error { return typed.Send(bounded(t), "repaired", patterns.AsReceived(received)) },
			"", "a.key", `"repaired"`, func(p *adapters.Properties) { p.ContentType, p.ContentEncoding = "application/json", "" }, headers,
		},
		{
			"from a delivery made by hand", func() error { return onward.Send(bounded(t), patterns.Raw("x"), patterns.AsReceived(byHand)) },
			"by hand", "another", "x", func(p *adapters.Properties) { *p = adapters.Properties{ContentType: "text/plain", Type: "t"} },
			map[string]string{"a": "b"},
		},
	} {
		must(t, c.send())
		got, err := driver.Get(bounded(t), source)
		must(t, err)
		must(t, got.Settle(bounded(t), adapters.Ack))
		want := came
		c.change(&want)
		if want.Attempt = 1; want.Timestamp.IsZero() {
			want.Timestamp = got.Timestamp
		}
		m := got.Message
		if got.Properties != want || got.Key != c.key || m.UUID != c.id || string(m.Payload) != c.payload || !maps.Equal(m.Metadata, c.headers) {
			t.Errorf("%s: got %q %q %q %v %+v,\nwant %q %q %q %v %+v", c.name, m.UUID, got.Key, m.Payload, m.Metadata, got.Properties,
				c.id, c.key, c.payload, c.headers, want)
		}
	}
	two := []patterns.Raw{letter.Value, letter.Value}
	changed.ID = "one id for two"
	wantErr(t, "a batch", onward.SendBatch(bounded(t), two, patterns.AsReceived(changed)), adapters.ErrInvalid)
	wantErr(t, "a batch of those that had no id", onward.SendBatch(bounded(t), two, patterns.AsReceived(received)), adapters.ErrInvalid)
	wantErr(t, "given twice", onward.Send(bounded(t), letter.Value, patterns.AsReceived(received), patterns.AsReceived(received)), adapters.ErrInvalid)
}
