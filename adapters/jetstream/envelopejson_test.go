package jetstream

import (
	"encoding/json"
	"reflect"
	"testing"
)

// full is an envelope with all there is.
func full() envelope {
	return envelope{
		ID: "an-id", Metadata: map[string]string{"trace": "00-1-2", "": "empty", "<&\"\\\u2028ü": "\n\x00 é"}, Base64: true,
		Key: "a.b", ContentType: "application/json", ContentEncoding: "gzip", Type: "order", AppID: "shop", CorrelationID: "c", ReplyTo: "r",
		Timestamp: -1, Attempt: 3, Lost: 2, TTL: 1 << 50, Lasting: true, Transient: true, Priority: 255, Died: "rejected", ToKind: 4, ToName: "q",
	}
}

// TestEnvelopeIsJSON: all fields are written and read, as encoding/json does it.
func TestEnvelopeIsJSON(t *testing.T) {
	e := full()
	for i, v := 0, reflect.ValueOf(e); i < v.NumField(); i++ {
		if v.Field(i).IsZero() && v.Type().Field(i).Tag.Get("json") != "-" {
			t.Errorf("the test knows nothing of %s", v.Type().Field(i).Name)
		}
	}
	plain := full()
	plain.Timestamp, plain.Metadata = 1, map[string]string{"a": "b", "c": "d"}
	for name, e := range map[string]envelope{"empty": {}, "full": e, "plain": plain} {
		text := string(e.appendJSON(nil))
		var got envelope
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %s is %+v, %v", name, text, got, err)
		}
		if got, err := parseEnvelope(text); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %s is read as %+v, %v", name, text, got, err)
		}
		if _, ok := readEnvelope(text); ok != (name != "full") {
			t.Errorf("%s: that it is read without encoding/json is %v", name, ok)
		}
	}
}

// FuzzParseEnvelope: what others write is read as encoding/json reads it.
func FuzzParseEnvelope(f *testing.F) {
	e := full()
	for _, text := range []string{
		string(e.appendJSON(nil)), `{}`, `{"id":"a","priority":256}`, `{"attempt":01}`, `{"attempt":1.5}`, `{"lasting":false}`, `{"ID":"a"}`, `{"id":"a",}`,
		`{"metadata":{"a":"b","a":"c"}}`, `{"metadata":{}}`, `{"id":"a"}x`, ` {}`, `{"id":"\u0041"}`, `{"id":"` + "\xff" + `"}`, `{"ttl":99999999999999999999}`,
		`{"metadata":{"a":"b"},"metadata":{"c":"d"}}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want envelope
		wantErr := json.Unmarshal([]byte(text), &want)
		got, err := parseEnvelope(text)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v; want %+v, %v", text, got, err, want, wantErr)
		}
	})
}
