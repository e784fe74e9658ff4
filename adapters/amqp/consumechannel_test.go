package amqp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// newTestConsumeChannel returns frames with a consumeChannel on channel 4.
func newTestConsumeChannel(t *testing.T, room int) (*frame.Mux, *consumeChannel, *io.PipeWriter, *scripted) {
	mux, _, broker, s := newScript(t)
	cc := &consumeChannel{mux: mux, number: 4, deliveries: make(chan *incoming, room)}
	if err := mux.Attach(cc.number, cc); err != nil {
		t.Fatal(err)
	}
	return mux, cc, broker, s
}

// delivery is the frames of one, with its body in pieces.
func deliver(tag uint64, id string, pieces ...string) []byte {
	b := frameOf(frame.TypeMethod, 4, u32(frame.MethodDeliver), frame.AppendShort(nil, "consumer"), binary.BigEndian.AppendUint64(nil, tag), []byte{1},
		frame.AppendShort(nil, "exchange"), frame.AppendShort(nil, "a.key"))
	b = append(b, frameOf(frame.TypeHeader, 4, []byte{0, frame.ClassBasic, 0, 0}, binary.BigEndian.AppendUint64(nil, uint64(len(strings.Join(pieces, "")))),
		[]byte{0, flagMessageID}, frame.AppendShort(nil, id))...)
	for _, piece := range pieces {
		b = append(b, frameOf(frame.TypeBody, 4, []byte(piece))...)
	}
	return b
}

// TestDeliveriesDivide: what comes in is put together, however the stream is
// cut up, and the rest comes through unchanged.
func TestDeliveriesDivide(t *testing.T) {
	large := strings.Repeat("x", 64<<10)
	theirs := [][]byte{
		frameOf(frame.TypeMethod, 4, u32(frame.ClassBasic<<16|methodConsumeOK), frame.AppendShort(nil, "consumer")), frameOf(8, 0),
		frameOf(frame.TypeMethod, 4, u32(frame.MethodCancel), frame.AppendShort(nil, "consumer")), frameOf(frame.TypeHeader, 5, make([]byte, 20)),
	}
	stream := slices.Concat(theirs[0], deliver(1, "small", "a body"), theirs[1], deliver(2, "empty"),
		deliver(3, "large", large, "", large, "end"), theirs[2], theirs[3], deliver(4, "late", "b"))
	for _, size := range []int{1, 100, 4096, len(stream)} {
		mux, cc, broker, _ := newTestConsumeChannel(t, 4)
		go func() {
			for b := range slices.Chunk(stream, size) {
				_, _ = broker.Write(b)
			}
			_ = broker.Close()
		}()
		got, err := io.ReadAll(io.MultiReader(mux))
		if err != nil || !bytes.Equal(got, bytes.Join(theirs, nil)) {
			t.Fatalf("%d at a time: %d bytes came through, want %d, error %v", size, len(got), len(bytes.Join(theirs, nil)), err)
		}
		for i, want := range []struct{ id, body string }{{"small", "a body"}, {"empty", ""}, {"large", large + large + "end"}, {"late", "b"}} {
			in := <-cc.deliveries
			var out adapters.Delivery
			in.decode(&out)
			if in.tag != uint64(i+1) || out.Message.UUID != want.id || string(out.Message.Payload) != want.body || out.Key != "a.key" || !out.Redelivered {
				t.Errorf("%d at a time: %d came as %d %+v", size, i+1, in.tag, out)
			}
		}
		if cc.Ack(1, true) == nil {
			t.Error("acknowledged after the end of the connection")
		}
	}
}

const methodConsumeOK = 21

// TestMoreThanThePrefetch: a broker that sends more than it may is not one to
// go on with. Nothing waits for it, and nothing is dropped: it has it still.
func TestMoreThanThePrefetch(t *testing.T) {
	mux, cc, broker, _ := newTestConsumeChannel(t, 2)
	go func() {
		_, _ = broker.Write(slices.Concat(deliver(1, "a"), deliver(2, "b"), deliver(3, "c"), frameOf(8, 0)))
	}()
	_, _ = io.ReadFull(mux, make([]byte, 8))
	if mux.Conn.Alive() || len(cc.deliveries) != 2 {
		t.Errorf("alive: %v, %d messages", mux.Conn.Alive(), len(cc.deliveries))
	}
}

// TestSettledBeforeTheEnd: acknowledgements are whole frames, and none is
// written to a channel that the broker has closed: that would cost the connection.
func TestSettledBeforeTheEnd(t *testing.T) {
	mux, cc, broker, socket := newTestConsumeChannel(t, 2)
	for _, err := range []error{cc.Ack(7, true), cc.Ack(1<<40, false), cc.Nack(8, false, true), cc.Nack(9, true, false)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	closing := frameOf(frame.TypeMethod, 4, u32(frame.MethodChannelClose), []byte{404 >> 8, 404 & 0xff}, frame.AppendShort(nil, "gone"), make([]byte, 4))
	go func() { _, _ = broker.Write(closing) }()
	if _, err := io.ReadFull(mux, make([]byte, len(closing))); err != nil {
		t.Fatal(err)
	}
	if err := cc.Ack(10, false); err == nil {
		t.Error("acknowledged on a closed channel")
	}
	_ = mux.Close()
	<-mux.Done()
	tag := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	want := slices.Concat(
		frameOf(frame.TypeMethod, 4, u32(frame.MethodAck), tag(7), []byte{1}), frameOf(frame.TypeMethod, 4, u32(frame.MethodAck), tag(1<<40), []byte{0}),
		frameOf(frame.TypeMethod, 4, u32(frame.MethodNack), tag(8), []byte{2}), frameOf(frame.TypeMethod, 4, u32(frame.MethodNack), tag(9), []byte{1}))
	if got := socket.Written(); !bytes.Equal(got, want) {
		t.Errorf("written %x, want %x", got, want)
	}
}

// TestReadAlike: a message is the same whether it is got or received, with headers of all types.
func TestReadAlike(t *testing.T) {
	d := connect(t)
	name := unique(t)
	declare(t, d, fromQueue(name, 2))
	at := time.Unix(1700000000, 0)
	headers := amqp091.Table{
		"yes": true, "no": false, "byte": byte(200), "int8": int8(-3), "int16": int16(-300), "int32": int32(-70000), "int64": int64(math.MinInt64),
		"float": float32(1.5), "double": math.Pi, "decimal": amqp091.Decimal{Scale: 2, Value: -12345}, "text": "a text", "empty": "",
		"list": []any{int32(1), "two", []any{true}, amqp091.Table{"in": at}}, "time": at, "table": amqp091.Table{"a": int64(1), "b": nil, "c": []byte("x")},
		"bytes": []byte{0, 1, 255}, "nothing": nil, "": "no name", "é": "é", headerUUID: "theirs", headerAttempt: int64(3), headerKey: "a key",
		headerEscape + "x-y": "escaped", "x-own": "kept", "CC": []any{},
	}
	full := amqp091.Publishing{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "none", DeliveryMode: amqp091.Persistent, Priority: 3, CorrelationId: "c",
		ReplyTo: "r", Expiration: "600000", MessageId: "m", Timestamp: at, Type: "t", UserId: "", AppId: "app", Body: []byte("body"),
	}
	bare := amqp091.Publishing{}
	own := full
	own.Headers = maps.Clone(headers)
	delete(own.Headers, headerAttempt)
	own.MessageId = ""
	for i, p := range []amqp091.Publishing{full, bare, own} {
		for range 2 {
			if err := d.Do(ctx, func(ch *amqp091.Channel) error {
				if err := ch.Confirm(false); err != nil {
					return err
				}
				confirm, err := ch.PublishWithDeferredConfirm("", name, true, false, p)
				if err == nil && !confirm.Wait() {
					err = errors.New("nacked")
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.Get(ctx, fromQueue(name, 1))
		if err != nil {
			t.Fatal(err)
		}
		settle(t, got, adapters.Ack)
		sub := subscribe(t, d, fromQueue(name, 1))
		received, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		settle(t, received, adapters.Ack)
		if err := sub.Stop(); err != nil {
			t.Fatal(err)
		}
		a, b := plainly(got), plainly(received)
		if a != b || i == 0 && !strings.Contains(a, `decimal:-123.45`) {
			t.Errorf("got      %s\nreceived %s", a, b)
		}
	}
}

// plainly is all of a delivery but what belongs to its session.
func plainly(d adapters.Delivery) string {
	return fmt.Sprintf("%q %q %v %q %v %+v", d.Message.UUID, d.Message.Payload, d.Message.Metadata, d.Key, d.Redelivered, d.Properties)
}

// FuzzDecode: nothing that comes in makes reading panic, or lasts.
func FuzzDecode(f *testing.F) {
	f.Add(string(frame.AppendShort(frame.AppendShort(nil, "x"), "k")) + "\xff\xff\x04text\x00")
	f.Add("\x00\x00\x20\x00\x00\x00\x00\x0a\x04listA\x00\x00\x00\x00")
	f.Add("\x00\x00\x20\x00" + strings.Repeat("\x00\x00\x00\xff\x00F", 200))
	f.Fuzz(func(t *testing.T, text string) {
		in := &incoming{header: text, message: message.Message{Payload: []byte("p")}}
		var out adapters.Delivery
		in.decode(&out)
		if out.Message == nil || out.Message.Metadata == nil || out.Attempt < 1 {
			t.Errorf("%q came as %+v", text, out)
		}
	})
}
