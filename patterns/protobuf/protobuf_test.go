package protobuf_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/motifmq/motif/patterns/protobuf"
)

func TestRoundTrip(t *testing.T) {
	var c protobuf.Codec
	data, err := c.Encode(wrapperspb.String("pad thai"))
	if err != nil {
		t.Fatal(err)
	}
	var fromNil *wrapperspb.StringValue
	if err := c.Decode(data, &fromNil); err != nil || fromNil.GetValue() != "pad thai" {
		t.Errorf("decoded into a nil pointer: %v, %v", fromNil, err)
	}
	var into wrapperspb.StringValue
	if err := c.Decode(data, &into); err != nil || into.GetValue() != "pad thai" {
		t.Errorf("decoded into a message: %v, %v", into.GetValue(), err)
	}
}

func TestRefuses(t *testing.T) {
	var c protobuf.Codec
	if _, err := c.Encode("text"); err == nil {
		t.Error("encoded a string")
	}
	var s string
	var ps *string
	for _, v := range []any{nil, s, &s, &ps, (*string)(nil)} {
		if err := c.Decode(nil, v); err == nil {
			t.Errorf("decoded into %T", v)
		}
	}
	var m *wrapperspb.StringValue
	if err := c.Decode([]byte{0xff}, &m); err == nil || m != nil {
		t.Errorf("decoded garbage: %v, %v", m, err)
	}
}
