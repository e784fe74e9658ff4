package kafka

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestEnvelopeIsJSON: all fields are written and read, as encoding/json does it.
func TestEnvelopeIsJSON(t *testing.T) {
	full := envelope{
		ID: "an-id", Base64: true, ContentType: "application/json", ContentEncoding: "gzip", Type: "order", AppID: "shop", CorrelationID: "c", ReplyTo: "r",
		Timestamp: 1, Attempt: 3, Lost: 2, Returned: 4, Transient: true, Died: "rejected", Again: true, Due: 1 << 50, ToKind: 255, ToName: "q", Refused: 5,
	}
	for i, v := 0, reflect.ValueOf(full); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("the test knows nothing of %s", v.Type().Field(i).Name)
		}
	}
	escaped := full
	escaped.ID = "<&\"\\\u2028ü\n\x00"
	for name, e := range map[string]envelope{"empty": {}, "full": full, "escaped": escaped} {
		text := e.appendJSON(nil)
		if std, err := json.Marshal(e); err != nil || string(std) != string(text) {
			t.Errorf("%s: written as %s, not %s, %v", name, text, std, err)
		}
		if got, err := parseEnvelope(text); err != nil || got != e {
			t.Errorf("%s: %s is read as %+v, %v", name, text, got, err)
		}
		if _, ok := readEnvelope(string(text)); ok != (name != "escaped") {
			t.Errorf("%s: that it is read without encoding/json is %v", name, ok)
		}
	}
	for _, foreign := range []string{` {"id":"a"}`, `{"id":"a","more":[1]}`, `{"attempt":1,"again":false}`} {
		var want envelope
		err := json.Unmarshal([]byte(foreign), &want)
		if got, gotErr := parseEnvelope([]byte(foreign)); err != nil || gotErr != nil || got != want {
			t.Errorf("%s is read as %+v, %v", foreign, got, gotErr)
		}
	}
	if _, err := parseEnvelope([]byte(`{"id":`)); err == nil {
		t.Error("what is no JSON is read")
	}
}
