package amqp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

func TestText(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		value any
		want  string
	}{
		{"a", "a"},
		{"", ""},
		{nil, ""},
		{[]byte("bytes\xff"), "bytes\xff"},
		{true, "true"},
		{false, "false"},
		{int8(-8), "-8"},
		{uint8(8), "8"},
		{int16(-16), "-16"},
		{uint16(16), "16"},
		{int32(-32), "-32"},
		{uint32(32), "32"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{float32(1.5), "1.5"},
		{2.25, "2.25"},
		{math.NaN(), "NaN"},
		{at, "2026-02-03T03:05:06Z"},
		{amqp091.Decimal{Scale: 2, Value: 12345}, "123.45"},
		{amqp091.Decimal{Scale: 3, Value: -5}, "-0.005"},
		{amqp091.Decimal{Value: 7}, "7"},
		{[]any{"a", int32(1), []byte("b"), nil, at}, `["a",1,"b",null,"2026-02-03T03:05:06Z"]`},
		{amqp091.Table{"a": amqp091.Table{"b": []any{true}}, "c": amqp091.Decimal{Scale: 1, Value: 15}}, `{"a":{"b":[true]},"c":"1.5"}`},
		{[]any{math.Inf(1)}, "[+Inf]"},
	} {
		if got := text(c.value); got != c.want {
			t.Errorf("text(%#v) = %q, want %q", c.value, got, c.want)
		}
	}
}

func encodeFor(t *testing.T, p adapters.Publication, m *message.Message) (outgoing, error) {
	t.Helper()
	cfg, err := Config{Addresses: []string{"localhost"}, MaxBody: 2000}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := cfg.newRoute(&p)
	if err != nil {
		return outgoing{}, err
	}
	d := &Driver{cfg: cfg, ctx: t.Context()}
	d.publisher = newSupervisor(d, "publish")
	return d.newOutgoing(&r, m)
}

// received is what comes of a message at the other side.
func received(t *testing.T, o outgoing) (d amqp091.Delivery) {
	t.Helper()
	const channel, largest = 7, 1300 // two frames for the body
	rest, parts, err := o.appendTo(nil, channel, "", largest)
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Concat(append(parts, rest)...)
	var frames [][]byte
	for len(b) > 0 {
		n := frame.Size(b)
		if binary.BigEndian.Uint16(b[1:]) != channel || b[n-1] != frame.EndByte || n > largest {
			t.Fatalf("frame of %d bytes: %x", n, b[:n])
		}
		frames, b = append(frames, b[:n-1]), b[n:]
	}
	r := frame.Reader{S: string(frames[0][frame.HeadSize:])}
	if frames[0][0] != frame.TypeMethod || r.Uint(4) != frame.MethodPublish || r.Uint(2) != 0 {
		t.Fatalf("method %x", frames[0])
	}
	d.Exchange, d.RoutingKey = r.ShortString(), r.ShortString()
	if mandatory := r.Uint(1); len(r.S) > 0 || mandatory != 0 && !o.p.Mandatory {
		t.Fatalf("method %x", frames[0])
	}
	r = frame.Reader{S: string(frames[1][frame.HeadSize:])}
	if frames[1][0] != frame.TypeHeader || r.Uint(2) != frame.ClassBasic || r.Uint(2) != 0 || r.Uint(4) != 0 {
		t.Fatalf("header %x", frames[1])
	}
	size, flags := int(r.Uint(4)), uint16(r.Uint(2))
	text := func(flag uint16) string {
		if flags&flag == 0 {
			return ""
		}
		return r.ShortString()
	}
	number := func(flag uint16) uint8 {
		if flags&flag == 0 {
			return 0
		}
		return uint8(r.Uint(1))
	}
	d.ContentType, d.ContentEncoding = text(flagContentType), text(flagEncoding)
	d.Headers = amqp091.Table{}
	table := frame.Reader{}
	if flags&flagHeaders != 0 {
		table.S = r.LongString()
	}
	for len(table.S) > 0 {
		name := table.ShortString()
		kind := table.Uint(1)
		if name == headerBCC && kind == 'A' && o.delayUnits > 0 { // ours, which RabbitMQ takes away
			list := frame.Reader{S: table.LongString()}
			if kind := list.Uint(1); kind != 'S' || list.LongString() != discardQueue || len(list.S) > 0 {
				t.Errorf("header %s is not a list of %s", name, discardQueue)
			}
			continue
		}
		if kind != 'S' {
			t.Errorf("header %s is of type %c: there are clients that refuse that", name, kind)
		}
		d.Headers[name] = table.LongString()
	}
	d.DeliveryMode, d.Priority = number(flagDeliveryMode), number(flagPriority)
	d.CorrelationId, d.ReplyTo, d.Expiration, d.MessageId = text(flagCorrelation), text(flagReplyTo), text(flagExpiration), text(flagMessageID)
	d.Timestamp = time.Unix(int64(r.Uint(8)), 0)
	if len(r.S) > 0 {
		t.Fatalf("behind the header: %x", r.S)
	}
	for _, f := range frames[2:] {
		if f[0] != frame.TypeBody {
			t.Fatalf("body %x", f)
		}
		d.Body = append(d.Body, f[frame.HeadSize:]...)
	}
	if len(d.Body) != size {
		t.Fatalf("body of %d bytes, announced as %d", len(d.Body), size)
	}
	if to, _ := d.Headers[headerTo].(string); strings.HasPrefix(to, toQueues) {
		d.Exchange = "" // which the ladder ends in
	}
	return d
}

// decoded is what is read of a delivery, once it is written as the broker would.
func decoded(d amqp091.Delivery) (out adapters.Delivery) {
	p := properties{
		contentType: d.ContentType, contentEncoding: d.ContentEncoding, deliveryMode: d.DeliveryMode, priority: d.Priority, correlationID: d.CorrelationId,
		replyTo: d.ReplyTo, expiration: d.Expiration, messageID: d.MessageId, kind: d.Type, userID: d.UserId, appID: d.AppId,
	}
	for flag, is := range map[uint16]bool{
		flagContentType: d.ContentType != "", flagEncoding: d.ContentEncoding != "", flagDeliveryMode: d.DeliveryMode > 0, flagPriority: d.DeliveryMode > 0, // as with Motif
		flagCorrelation: d.CorrelationId != "", flagReplyTo: d.ReplyTo != "", flagExpiration: d.Expiration != "", flagMessageID: d.MessageId != "",
		flagTimestamp: !d.Timestamp.IsZero(), flagType: d.Type != "", flagUserID: d.UserId != "", flagAppID: d.AppId != "",
	} {
		if is {
			p.flags |= flag
		}
	}
	if !d.Timestamp.IsZero() {
		p.timestamp = uint64(d.Timestamp.Unix())
	}
	text := p.appendTo(frame.AppendShort(frame.AppendShort(nil, d.Exchange), d.RoutingKey), func(b []byte) []byte { return appendTable(b, d.Headers) })
	in := &incoming{header: string(text), redelivered: d.Redelivered, message: message.Message{Payload: d.Body}}
	in.decode(&out)
	return out
}

func appendTable(b []byte, table amqp091.Table) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	for name, value := range table {
		b = appendValue(frame.AppendShort(b, name), value)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// appendValue appends a field of one of the types that tests have.
func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, 'V')
	case string:
		return append(binary.BigEndian.AppendUint32(append(b, 'S'), uint32(len(v))), v...)
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 'I'), uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'l'), uint64(v))
	case time.Time:
		return binary.BigEndian.AppendUint64(append(b, 'T'), uint64(v.Unix()))
	case amqp091.Table:
		return appendTable(append(b, 'F'), v)
	case []any:
		b = append(b, 'A', 0, 0, 0, 0)
		at := len(b)
		for _, item := range v {
			b = appendValue(b, item)
		}
		binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
		return b
	}
	panic(value)
}

func TestRoundTrip(t *testing.T) {
	at := time.Unix(1700000000, 0)
	for _, p := range []adapters.Publication{
		{To: queueAt("q")},
		{To: queueAt("q"), Key: "first.key"},
		{To: adapters.Endpoint{Kind: adapters.Topic, Name: "x"}, Key: "a.b"},
		{To: adapters.Endpoint{Kind: adapters.Fanout, Name: "x"}},
		{To: adapters.Endpoint{Kind: adapters.Reply, Name: "amq.gen-1"}},
		{To: queueAt("q"), Delay: time.Second, Key: "k", Properties: adapters.Properties{TTL: time.Minute}},
	} {
		for _, props := range []adapters.Properties{
			{Timestamp: at, Attempt: 1, TTL: p.TTL},
			{Timestamp: at, Attempt: 7, TTL: time.Minute, Priority: 9, Transient: true, ContentType: "text/plain", CorrelationID: "c", ReplyTo: "amq.gen-2"},
		} {
			p.Properties = props
			m := message.NewMessage("id", bytes.Repeat([]byte("body"), 500))
			for _, key := range []string{
				"a", "", "CC", "BCC", "cc", "x-match", "X-y", "x", "_watermill_message_uuid", "motif-seq", "motif-attempt", "motif-attempts", "motif-key",
				"motif-delay-to", "motif-delay-03", "motif-ttl", "motif-metadata-a", "motif-metadata-", "motif-reason", "x-death", "x-delivery-count", "é",
			} {
				m.Metadata[key] = "value of " + key
			}
			o, err := encodeFor(t, p, m)
			if err != nil {
				t.Fatal(err)
			}
			delivery := received(t, o)
			for name := range delivery.Headers {
				if lower := strings.ToLower(name); lower == "bcc" || name == "CC" || strings.HasPrefix(lower, "x-") {
					t.Errorf("header %s would mean something to the broker", name)
				}
			}
			got := decoded(delivery)
			if waited := p.Delay > 0 && props.Priority > 0; waited == (got.Foreign == nil) { // which has lost its level
				t.Errorf("%+v came with %v beside it", p, got.Foreign)
			}
			got.Foreign = nil
			if !reflect.DeepEqual(got.Properties, props) || got.Key != p.Key {
				t.Errorf("%+v came as %+v, key %q", p, got.Properties, got.Key)
			}
			if got.Message.UUID != "id" || !bytes.Equal(got.Message.Payload, m.Payload) || !reflect.DeepEqual(got.Message.Metadata, m.Metadata) {
				t.Errorf("%+v came as %+v", m, got.Message)
			}
		}
	}
}

func TestDecodeForeign(t *testing.T) {
	got := decoded(amqp091.Delivery{
		Headers: amqp091.Table{
			"_watermill_message_uuid": "theirs", "n": int32(5), "x-delivery-count": int64(3), "motif-attempt": "many",
			"list": []any{int64(1)}, "motif-key": int32(1), "nothing": nil,
		},
		Expiration: "soon", Exchange: "x", RoutingKey: "k", Redelivered: true,
	})
	want := message.Metadata{"n": "5", "list": "[1]", "nothing": ""}
	if got.Message.UUID != "theirs" || !reflect.DeepEqual(got.Message.Metadata, want) || got.Attempt != 1 || got.TTL != 0 ||
		got.Key != "k" || !got.Transient || !got.Redelivered || !got.Timestamp.IsZero() {
		t.Errorf("%+v %+v", got, got.Message)
	}
	if got := decoded(amqp091.Delivery{MessageId: "mine", Headers: amqp091.Table{headerUUID: "theirs"}}); got.Message.UUID != "mine" {
		t.Errorf("UUID %q", got.Message.UUID)
	}
	if got := decoded(amqp091.Delivery{Headers: amqp091.Table{headerAttempt: int64(4)}}); got.Attempt != 4 || got.Message.Metadata == nil {
		t.Errorf("%+v", got)
	}
}

func TestDecodeDeadLetter(t *testing.T) {
	death := func(queue, reason, exchange, key string) amqp091.Table {
		return amqp091.Table{"queue": queue, "reason": reason, "count": int64(2), "exchange": exchange, "routing-keys": []any{key}}
	}
	got := decoded(amqp091.Delivery{
		Headers: amqp091.Table{
			"x-death":              []any{death("b", "rejected", "", "b"), death("motif.delay.03", "expired", "x", "k"), death("a", "expired", "news", "first")},
			"x-first-death-reason": "expired", "x-first-death-queue": "motif.delay.03", "x-first-death-exchange": "x",
		},
		RoutingKey: "a.dead",
	})
	want := message.Metadata{"x-death": "b rejected 2, a expired 2", "x-first-death-reason": "expired", "x-first-death-queue": "a"}
	if !reflect.DeepEqual(got.Message.Metadata, want) || got.Key != "first" {
		t.Errorf("%v, key %q", got.Message.Metadata, got.Key)
	}
	// What a client sends under these names is taken for what it is.
	for _, odd := range []any{"x", int32(1), []any{"x"}, []any{amqp091.Table{"routing-keys": "x"}}, nil} {
		_ = decoded(amqp091.Delivery{Headers: amqp091.Table{"x-death": odd}})
	}
}

// TestInvalidPublications: what AMQP cannot say is refused before it is sent, for the
// broker closes the channel, or the connection that others share, for it.
func TestInvalidPublications(t *testing.T) {
	reply := func(address string) adapters.Publication {
		return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: address}}
	}
	with := func(props adapters.Properties) adapters.Publication {
		return adapters.Publication{To: queueAt("q"), Properties: props}
	}
	ok := msg("id")
	for name, c := range map[string]struct {
		p    adapters.Publication
		m    *message.Message
		want error
	}{
		"nil message":          {toQueue("q"), nil, adapters.ErrInvalid},
		"large":                {toQueue("q"), message.NewMessage("id", make([]byte, 2001)), adapters.ErrTooLarge},
		"long id":              {toQueue("q"), &message.Message{UUID: strings.Repeat("x", 256)}, adapters.ErrInvalid},
		"long key":             {toQueue("q"), &message.Message{Metadata: message.Metadata{strings.Repeat("x", 256): ""}}, adapters.ErrInvalid},
		"key too long escaped": {toQueue("q"), &message.Message{Metadata: message.Metadata{"x-" + strings.Repeat("x", 253): ""}}, adapters.ErrInvalid},
		"long TTL":             {with(adapters.Properties{TTL: 50 * 24 * time.Hour}), ok, adapters.ErrInvalid},
		"long delay":           {delayed(toQueue("q"), maxDelay+1), ok, adapters.ErrInvalid},
		"delayed answer":       {delayed(reply("amq.gen-x"), 1), ok, adapters.ErrInvalid},
		"many attempts":        {with(adapters.Properties{Attempt: math.MaxInt32 + 1}), ok, adapters.ErrInvalid},
		"direct reply":         {with(adapters.Properties{ReplyTo: "amq.rabbitmq.reply-to"}), ok, adapters.ErrInvalid},
		"reply to a queue":     {reply("orders"), ok, adapters.ErrInvalid},
		"reply to itself":      {reply("amq.rabbitmq.reply-to"), ok, adapters.ErrInvalid},
		"reply with a space":   {reply("amq.gen-a b"), ok, adapters.ErrInvalid},
		"reply not ASCII":      {reply("amq.gen-é"), ok, adapters.ErrInvalid},
		"reply":                {reply("amq.gen-x"), ok, nil},
		"direct reply address": {reply(directAddress("reply@71")), ok, nil},
		"no reply address":     {reply("amq.rabbitmq.reply-to.g1h2"), ok, adapters.ErrInvalid},
		"longest delay":        {delayed(toQueue("q"), maxDelay), ok, nil},
	} {
		if _, err := encodeFor(t, c.p, c.m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	cfg := Config{AllowReplyTo: func(address string) bool { return strings.HasPrefix(address, "replies.") }}
	if !cfg.allowsReplyTo("replies.1") || cfg.allowsReplyTo("orders") || cfg.allowsReplyTo("replies.\n") {
		t.Error("AllowReplyTo")
	}
}
