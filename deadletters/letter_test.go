package deadletters

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// TestDigest: letters that differ in one thing that a Record has of them have different digests.
func TestDigest(t *testing.T) {
	records := map[string]Record{
		"nothing": {}, "an id": {ID: "x"}, "a key": {Key: "x"}, "a header": {Headers: map[string]string{"x": "y"}},
		"a binary header": {BinaryHeaders: [][2][]byte{{[]byte("\xff"), nil}}},
		"a content type":  {ContentType: "x"}, "an encoding": {ContentEncoding: "x"}, "a type": {Type: "x"}, "an app id": {AppID: "x"},
		"a correlation id": {CorrelationID: "x"}, "an address": {ReplyTo: "x"}, "a timestamp": {Timestamp: time.Unix(1, 0)},
		"a finer timestamp": {Timestamp: time.Unix(1, 1)}, "a TTL": {TTL: 1}, "a priority": {Priority: 1}, "transience": {Transient: true},
		"an attempt": {Attempt: 1}, "a loss": {Lost: 1}, "a payload": {Payload: "x"},
		"a payload like a header": {Payload: "\x00\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x01y"},
	}
	has := map[digest]string{}
	missing := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Record]()) {
		missing[f.Name] = f.Name != "Queue"
	}
	for name, r := range records {
		l, err := r.Letter()
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := has[l.digest()]; taken {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		has[l.digest()] = name
		again := l
		again.Message, again.Foreign = clone(l.Message), "x-delivery-count: 1"
		again.Redelivered, again.Returned, again.Remaining = true, 1, 5
		if again.digest() != l.digest() {
			t.Errorf("%s: it is another one when it is delivered again", name)
		}
		for _, f := range reflect.VisibleFields(reflect.TypeFor[Record]()) {
			if !reflect.ValueOf(r).FieldByIndex(f.Index).IsZero() {
				missing[f.Name] = false
			}
		}
	}
	for field, is := range missing {
		if is {
			t.Errorf("no letter here has %s", field)
		}
	}
}

// TestTwinsAreSentBoth: letters with the same id, and no more than a property that differs, as
// other clients may publish them, are two.
func TestTwinsAreSentBoth(t *testing.T) {
	s := newSite(t)
	for _, queue := range []string{"orders", "orders.dead"} {
		if err := s.driver.Declare(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}}); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Unix(1, 0)
	for _, kind := range []string{"placed", "paid"} {
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders.dead"}}
		p.Type, p.Timestamp = kind, at
		if err := s.driver.Publish(t.Context(), p, message.NewMessage("7", nil)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), ReplayOptions{})
	if got := s.ids(t, "orders"); err != nil || report.Sent != 2 || !slices.Equal(got, []string{"7", "7"}) {
		t.Errorf("%+v, %v; sent %q", report, err, got)
	}
}
