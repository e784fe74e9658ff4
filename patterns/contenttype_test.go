package patterns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// received sends a payload as somebody else would, and returns what TryGet makes of it.
func received[T any](t *testing.T, p adapters.Properties, payload string, opts ...patterns.BusOption) (v T, err error) {
	t.Helper()
	bus, _ := newBus(t, opts...)
	q := patterns.NewWorkQueue[T](bus, "q")
	must(t, q.Declare(bounded(t)))
	publishRaw(t, bus, adapters.Endpoint{Name: "q"}, p, payload)
	got, err := q.TryGet(bounded(t))
	if err != nil {
		dead := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q.dead"))
		if string(dead.Value) != payload || dead.ContentType != p.ContentType || dead.ContentEncoding != p.ContentEncoding {
			t.Errorf("%q as %q, %q became the dead letter %q as %q, %q", payload, p.ContentType, p.ContentEncoding, dead.Value, dead.ContentType, dead.ContentEncoding)
		}
		return v, err
	}
	must(t, got.Ack(bounded(t)))
	return got.Value, nil
}

// Parameters tell more of a media type, and cannot hide it: those that are malformed, too.
func TestParametersDoNotHideTheMediaType(t *testing.T) {
	for _, contentType := range []string{
		"application/json", "application/json; utf-8", "application/json;utf-8", "application/json;", "application/json; ;", "application/json;;charset=utf-8",
		"application/json; charset", "application/json; charset=", `application/json; charset=""`, `application/json; charset="utf-8`,
		"application/json; charset='utf-8'", "application/json; charset = utf-8", "application/json; charset: utf-8", "application/json charset=utf-8",
		"application/json, charset=utf-8", "Application/JSON; Charset=UTF8", " application/json ; charset=utf-8 ", "application/json; charset=utf-8; charset=UTF-8",
		`application/json; q="a;b"; a=b=c; charset=utf-8`, "application/json; =; charset=utf-8", "application/json; a b", "text/json", "application/problem+json",
		"application/vnd.api+json; ext=\"https://jsonapi.org/ext/atomic\"", "application/vnd.a+b+json; v", "APPLICATION/LD+JSON",
	} {
		if v, err := received[order](t, adapters.Properties{ContentType: contentType}, `{"dish":"crème"}`); err != nil || v.Dish != "crème" {
			t.Errorf("%q: %+v, %v", contentType, v, err)
		}
	}
}

// What is sent in a charset is decoded from it, or refused: it is never taken for another one.
func TestCharsets(t *testing.T) {
	const latin1, utf16be, utf16le = "{\"dish\":\"cr\xe8me\"}", "\x00\"\x00\xe8\x00\"", "\"\x00\xe8\x00\"\x00"
	for _, c := range []struct{ contentType, contentEncoding, payload, want string }{
		{"application/json; charset=iso-8859-1", "", latin1, "crème"},
		{"application/json; charset=\"ISO-8859-1\"", "", latin1, "crème"},
		{"application/json; charset=latin1; x", "", latin1, "crème"},
		{"application/json; iso-8859-1", "", latin1, "crème"},
		{"application/json; charset=us-ascii", "", `{"dish":"rice"}`, "rice"},
		{"application/json", "iso-8859-1", latin1, "crème"}, // as Spring and Celery have it
		{"", "ISO-8859-1", latin1, "crème"},
		{"application/json", "utf-8", `{"dish":"crème"}`, "crème"},
		{"application/json; charset=iso-8859-1", "utf-8", latin1, "crème"}, // the one that is meant for it
		{"application/json", "", "\xef\xbb\xbf{\"dish\":\"crème\"}", "crème"},
		{"application/json; charset=utf-8", "", "\xef\xbb\xbf{\"dish\":\"crème\"}", "crème"},

		{"application/json", "", latin1, ""},
		{"application/json; charset=utf-8", "", latin1, ""},
		{"application/json; charset=us-ascii", "", `{"dish":"crème"}`, ""},
		{"application/json; charset=klingon", "", `{"dish":"x"}`, ""},
		{"application/json; charset=utf-7", "", `{"dish":"+AOg-"}`, ""},
		{"application/json; charset=utf-8; charset=latin1", "", latin1, ""},
		{"application/json; charset=utf-16le", "", "{\x00}", ""},
		{"application/json; charset=utf-16be", "", "\x00\"\xd8\x00\x00\"", ""}, // half a pair
		{"application/json; charset=utf-16be", "", "\x00\"\xdc\x00\xd8\x00\x00\"", ""},
		{"application/json; charset=utf-16be", "", "\x00\"\xd8\x00", ""},
		{"application/json; charset=x-lying", "", `{"dish":"rice"}`, ""},
		{"application/json; charset=x-long", "", `{"dish":"rice"}`, ""},
	} {
		v, err := received[order](t, adapters.Properties{ContentType: c.contentType, ContentEncoding: c.contentEncoding}, c.payload)
		if (err == nil) != (c.want != "") || v.Dish != c.want || err != nil && !errors.Is(err, patterns.ErrCodec) {
			t.Errorf("%q of %q, %q: %+v, %v, want %q", c.payload, c.contentType, c.contentEncoding, v, err, c.want)
		}
	}
	for _, c := range []struct{ contentType, payload, want string }{
		{"application/json; charset=utf-16", utf16be, "è"},
		{"application/json; charset=utf-16", "\xfe\xff" + utf16be, "è"},
		{"application/json; charset=utf-16", "\xff\xfe" + utf16le, "è"},
		{"application/json; charset=UTF-16BE", utf16be, "è"},
		{"application/json; charset=utf-16le", "\xff\xfe" + utf16le, "è"},
		{"text/plain; charset=utf-16", "\xff\xfe\xfd\xff", "\ufffd"},
		{"text/plain; charset=utf-16", "\xd8\x3c\xdf\x5c", "🍜"},
		{"text/plain; charset=X-Upper", "rice", "RICE"},
		{"text/plain; charset=iso-8859-1", "\x80\xe8", "\u0080è"},
		{"text/plain; charset=utf-8", "\xef\xbb\xbfè", "\ufeffè"}, // as it came
		{"application/octet-stream; charset=iso-8859-1", "\xe8", "\xe8"},
	} {
		if v, err := received[string](t, adapters.Properties{ContentType: c.contentType}, c.payload); err != nil || v != c.want {
			t.Errorf("%q of %q: %q, %v, want %q", c.payload, c.contentType, v, err, c.want)
		}
	}
}

// upper, lying and long are somebody's own.
type ownCharset struct {
	name   string
	decode func([]byte) []byte
}

func (c ownCharset) Name() string                       { return c.name }
func (c ownCharset) Decode(data []byte) ([]byte, error) { return c.decode(data), nil }

func init() {
	patterns.RegisterCharsets(func(name string) patterns.Charset {
		switch strings.ToLower(name) {
		case "x-upper":
			return ownCharset{"x-upper", bytes.ToUpper}
		case "x-lying":
			return ownCharset{"x-lying", func(data []byte) []byte { return append([]byte{0xff}, data...) }}
		case "x-long":
			return ownCharset{"x-long", func(data []byte) []byte { return bytes.Repeat(data, 5) }}
		}
		return nil
	})
}

func TestUnknownCharsetIsNamed(t *testing.T) {
	for _, contentType := range []string{"application/json; charset=klingon", "application/json; charset=windows-1252", "application/json; windows-1252"} {
		_, err := received[order](t, adapters.Properties{ContentType: contentType}, `{}`)
		if !errors.Is(err, patterns.ErrCodec) || !strings.Contains(err.Error(), "charset") || !strings.Contains(err.Error(), `import _ "github.com/motifmq/motif/patterns/charset"`) {
			t.Errorf("%q: %v", contentType, err)
		}
	}
	_, err := received[order](t, adapters.Properties{ContentType: "application/json; charset=us-ascii"}, "{\"dish\":\"\xff\"}")
	if err == nil || !strings.Contains(err.Error(), "not in charset us-ascii") {
		t.Errorf("got %v", err)
	}
}

// xmlCodec is somebody's own.
type xmlCodec struct{ contentType string }

func (c xmlCodec) ContentType() string           { return c.contentType }
func (xmlCodec) Encode(v any) ([]byte, error)    { return xml.Marshal(v) }
func (xmlCodec) Decode(data []byte, v any) error { return xml.Unmarshal(data, v) }

func TestSuffixesFindTheirCodec(t *testing.T) {
	for _, c := range []struct{ codec, contentType, payload string }{
		{"application/xml", "application/soap+xml; charset=utf-8; action=x", "<o><Dish>crème</Dish></o>"},
		{"application/xml", "text/xml", "<o><Dish>crème</Dish></o>"},
		{"text/xml; charset=utf-8", "application/atom+xml; charset=iso-8859-1", "<o><Dish>cr\xe8me</Dish></o>"},
		{"application/vnd.order+xml", "application/vnd.order+xml", "<o><Dish>crème</Dish></o>"},
		{"application/cbor", "application/vnd.order+cbor", "<o><Dish>crème</Dish></o>"},
	} {
		v, err := received[order](t, adapters.Properties{ContentType: c.contentType}, c.payload, patterns.WithCodec(patterns.JSON{}, xmlCodec{c.codec}))
		if err != nil || v.Dish != "crème" {
			t.Errorf("%q with a codec for %q: %+v, %v", c.contentType, c.codec, v, err)
		}
	}
	for _, c := range []struct{ codec, contentType string }{
		{"application/vnd.order+xml", "application/xml"}, // less is known of it
		{"application/xml", "application/xml+zip"},
		{"application/xml", "application/xml-dtd"},
		{"application/cbor", "application/vnd.order+cbor; charset=iso-8859-1"},
	} {
		_, err := received[order](t, adapters.Properties{ContentType: c.contentType}, "<o/>", patterns.WithCodec(patterns.JSON{}, xmlCodec{c.codec}))
		wantErr(t, c.contentType, err, patterns.ErrCodec)
	}
	if v, err := received[order](t, adapters.Properties{ContentType: "a/b; charset=ISO-8859-1"}, "<o><Dish>x</Dish></o>",
		patterns.WithCodec(xmlCodec{"a/b; charset=latin1"})); err != nil || v.Dish != "x" {
		t.Errorf("a codec with a charset of its own: %+v, %v", v, err)
	}
}

func TestStrictJSON(t *testing.T) {
	strict := patterns.WithCodec(patterns.JSON{DisallowUnknownFields: true})
	_, err := received[order](t, adapters.Properties{}, `{"id":1,"dsh":"x"}`, strict)
	wantErr(t, "an unknown field", err, patterns.ErrCodec)
	_, err = received[order](t, adapters.Properties{ContentType: "application/vnd.order+json"}, `{"id":1,"dsh":"x"}`, strict)
	wantErr(t, "an unknown field of a +json type", err, patterns.ErrCodec)
	_, err = received[order](t, adapters.Properties{}, `{"id":1} {"id":2}`, strict)
	wantErr(t, "two values", err, patterns.ErrCodec)
	_, err = received[order](t, adapters.Properties{}, `{"id":1}]`, strict)
	wantErr(t, "a value and more", err, patterns.ErrCodec)
	if v, err := received[order](t, adapters.Properties{}, "\ufeff {\"id\":1}\n ", strict); err != nil || v.ID != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestLargeNumbersSurvive(t *testing.T) {
	const payload = `{"n":9007199254740993}` // 2^53+1
	v, err := received[map[string]any](t, adapters.Properties{}, payload, patterns.WithCodec(patterns.JSON{UseNumber: true}))
	must(t, err)
	if want := map[string]any{"n": json.Number("9007199254740993")}; !reflect.DeepEqual(v, want) {
		t.Errorf("got %v", v)
	}
	back, err := patterns.JSON{}.Encode(v)
	if must(t, err); string(back) != payload {
		t.Errorf("sent on as %s", back)
	}
}

// A queue, a subscription, a call or one message can have a codec that is not the bus's.
func TestCodecOfOneQueue(t *testing.T) {
	bus, _ := newBus(t)
	own := patterns.WithCodec(xmlCodec{"application/xml"})
	q := patterns.NewWorkQueue[order](bus, "q", own)
	must(t, q.Send(bounded(t), order{Dish: "x"}))
	if raw := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q")); raw.ContentType != "application/xml" || raw.Value[0] != '<' {
		t.Errorf("sent %q as %s", raw.Value, raw.ContentType)
	}
	got := newJournal[string]()
	_, err := q.Work(bounded(t), func(_ context.Context, o order) error { got.add(o.Dish); return nil })
	must(t, err)
	must(t, q.Send(bounded(t), order{Dish: "by its own"}))
	must(t, patterns.NewWorkQueue[order](bus, "q").Send(bounded(t), order{Dish: "by the bus's"}))
	publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{}, "<order><Dish>of no type</Dish></order>")
	if all := got.await(t, 3); !reflect.DeepEqual(all, []string{"by its own", "by the bus's", "of no type"}) {
		t.Errorf("got %q", all)
	}

	ps := patterns.NewPubSub[order](bus, "p")
	_, err = ps.Subscribe(bounded(t), func(_ context.Context, o order) error { got.add(o.Dish); return nil }, own)
	must(t, err)
	must(t, ps.Publish(bounded(t), order{Dish: "published"}, own))
	if all := got.await(t, 4); all[3] != "published" {
		t.Errorf("got %q", all)
	}

	rpc := patterns.NewRPC[order, order](bus, "f")
	_, err = rpc.Serve(bounded(t), func(ctx context.Context, o order) (order, error) {
		d, _ := patterns.DeliveryFrom(ctx)
		return order{Dish: o.Dish + " as " + d.ContentType}, nil
	}, own)
	must(t, err)
	answer, err := rpc.Call(bounded(t), order{Dish: "called"}, own)
	if must(t, err); answer.Dish != "called as application/xml" {
		t.Errorf("got %q", answer.Dish)
	}
}

func TestCodecGivenTwice(t *testing.T) {
	json := patterns.WithCodec(patterns.JSON{})
	bus, _ := newBus(t)
	twice, _ := newBus(t, json, json)
	wantErr(t, "New", patterns.NewWorkQueue[string](twice, "q").Send(bounded(t), "x"), adapters.ErrInvalid)
	wantErr(t, "NewWorkQueue", patterns.NewWorkQueue[string](bus, "q", json, json).Send(bounded(t), "x"), adapters.ErrInvalid)
	wantErr(t, "Send", patterns.NewWorkQueue[string](bus, "q").Send(bounded(t), "x", json, json), adapters.ErrInvalid)
	wantErr(t, "one that decodes", patterns.NewWorkQueue[string](bus, "q").Send(bounded(t), "x", patterns.WithCodec(patterns.JSON{}, patterns.Text{})), adapters.ErrInvalid)
	wantErr(t, "no codec", patterns.NewWorkQueue[string](bus, "q", patterns.WithCodec(nil)).Send(bounded(t), "x"), adapters.ErrInvalid)
	wantErr(t, "two charsets", patterns.NewWorkQueue[string](bus, "q", patterns.WithCodec(xmlCodec{"a/b; charset=utf-8; charset=latin1"})).Send(bounded(t), "x"), adapters.ErrInvalid)
}
