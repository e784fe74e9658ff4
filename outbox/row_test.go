//go:build unix

package outbox

import (
	"reflect"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// fill sets every field that is not set yet to something.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(time.Unix(1e9, 0).UTC()))
		case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[adapters.Endpoint]():
			fill(f)
		case !f.IsZero() || f.Kind() == reflect.Interface || f.Kind() == reflect.Slice:
		case f.Kind() == reflect.String:
			f.SetString("s" + v.Type().Field(i).Name)
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.CanInt():
			f.SetInt(7)
		case f.CanUint():
			f.SetUint(1)
		}
	}
}

// Nothing of a message gets lost in its row, nor will what is added to it one day.
func TestRowKeepsAll(t *testing.T) {
	to := adapters.Endpoint{Kind: adapters.Queue, Name: "a:b"}
	o := patterns.Outgoing{
		Publication: adapters.Publication{To: to, Properties: adapters.Properties{TTL: time.Hour}},
		Queue:       adapters.Source{Endpoint: to},
		Message:     &message.Message{UUID: "id", Payload: message.Payload("p"), Metadata: message.Metadata{"k": "v"}},
	}
	fill(reflect.ValueOf(&o.Publication).Elem())
	fill(reflect.ValueOf(&o.Queue.Queue).Elem())
	o.Queue.Passive = true
	now := time.Unix(2e9, 0)
	r, err := newRow(o, now)
	must(t, err)
	again, err := r.outgoing(now)
	must(t, err)
	if !reflect.DeepEqual(again, o) {
		t.Errorf("%+v\n%+v\n%s", again, o, r.envelope)
	}
	o.Publication.To = adapters.Endpoint{Kind: adapters.Topic, Name: "t"}
	o.Queue = adapters.Source{}
	r, err = newRow(o, now)
	must(t, err)
	if again, err = r.outgoing(now); err != nil || again.Queue.Name != "" || again.Publication.To != o.Publication.To {
		t.Error(again, err)
	}
}
