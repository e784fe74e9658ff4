package protobuf_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
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

// One queue takes what publishers with other codecs send: the content type tells.
func TestContentTypeChoosesTheCodec(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(broker.Connect(), patterns.WithCodec(patterns.JSON{}, protobuf.Codec{}))
	defer bus.Close(ctx)
	q := patterns.NewWorkQueue[*wrapperspb.StringValue](bus, "q")
	if err := q.Send(ctx, wrapperspb.String("naïve"), patterns.WithCodec(protobuf.Codec{})); err != nil {
		t.Fatal(err)
	}
	got, err := q.TryGet(ctx)
	if err != nil || got.Value.GetValue() != "naïve" || got.ContentType != "application/protobuf" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := got.Ack(ctx); err != nil {
		t.Error(err)
	}
}
