package charset_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	_ "github.com/motifmq/motif/patterns/charset"
)

// received sends a payload as somebody else would, and returns what TryGet makes of it.
func received[T any](t *testing.T, contentType, contentEncoding, payload string, opts ...patterns.BusOption) (v T, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(broker.Connect(), opts...)
	defer bus.Close(ctx)
	q := patterns.NewWorkQueue[T](bus, "q")
	if err := q.Declare(ctx); err != nil {
		t.Fatal(err)
	}
	p := adapters.Publication{To: adapters.Endpoint{Name: "q"}, Properties: adapters.Properties{ContentType: contentType, ContentEncoding: contentEncoding}}
	if err := bus.Driver().Publish(ctx, p, message.NewMessage("1", []byte(payload))); err != nil {
		t.Fatal(err)
	}
	got, err := q.TryGet(ctx)
	if err != nil {
		return v, err
	}
	return got.Value, got.Ack(ctx)
}

type dish struct {
	Dish string `json:"dish"`
}

// What is sent in a charset is decoded from it, or refused: it is never taken for another one.
func TestCharsets(t *testing.T) {
	for _, c := range []struct{ contentType, contentEncoding, payload, want string }{
		{"application/problem+json; charset=windows-1252", "", "{\"dish\":\"5 \x80\"}", "5 €"},
		{"application/json; charset=cp1252", "", "{\"dish\":\"5 \x80\"}", "5 €"},
		{"application/json; windows-1252", "", "{\"dish\":\"5 \x80\"}", "5 €"},
		{"application/json", "windows-1252", "{\"dish\":\"5 \x80\"}", "5 €"},
		{"application/json; charset=iso-8859-15", "", "{\"dish\":\"5 \xa4\"}", "5 €"},
		{"application/json; charset=shift_jis", "", "{\"dish\":\"\x8e\xf5\x8e\x69\"}", "寿司"},
		{"application/json; charset=gb18030", "", "{\"dish\":\"\xc3\xe6\x84\x31\xa4\x37\"}", "面\ufffd"},
		{"application/json; charset=koi8-r", "", "{\"dish\":\"\xc2\xcc\xc9\xce\"}", "блин"},
		{"application/json; charset=utf-8", "", "{\"dish\":\"crème\"}", "crème"},
		{"application/json; charset=unicode", "", "{\x00}\x00", ""}, // UTF-16LE, as browsers have it

		{"application/json; charset=shift_jis", "", "{\"dish\":\"\x8e\"}", "refused"},
		{"application/json; charset=iso-8859-7", "", "{\"dish\":\"\xff\"}", "refused"},
		{"application/json; charset=us-ascii", "", "{\"dish\":\"\xe8\"}", "refused"},
		{"application/json; charset=utf-7", "", `{"dish":"+AOg-"}`, "refused"},
		{"application/json; charset=klingon", "", `{}`, "refused"},
	} {
		v, err := received[dish](t, c.contentType, c.contentEncoding, c.payload)
		if c.want == "refused" {
			if !errors.Is(err, patterns.ErrCodec) {
				t.Errorf("%q of %q: %+v, %v", c.payload, c.contentType, v, err)
			}
			continue
		}
		if err != nil || v.Dish != c.want {
			t.Errorf("%q of %q, %q: %+v, %v, want %q", c.payload, c.contentType, c.contentEncoding, v, err, c.want)
		}
	}
}

func TestErrorsNameTheCharset(t *testing.T) {
	for contentType, says := range map[string]string{
		"application/json; charset=klingon":    `charset "klingon" is not known`,
		"application/json; charset=iso-8859-7": "not in charset iso-8859-7",
	} {
		_, err := received[dish](t, contentType, "", "{\"dish\":\"\xff\"}")
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "import") {
			t.Errorf("%q: %v", contentType, err)
		}
	}
}

// own is a codec for text in a charset of its own.
type own struct{ patterns.Bytes }

func (own) ContentType() string { return "text/x-own; charset=windows-1251" }

// A codec that has a charset of its own gets what comes in it as it came, by whatever name, and
// nothing else.
func TestCodecWithACharset(t *testing.T) {
	for contentType, ok := range map[string]bool{
		"text/x-own; charset=cp1251": true, "text/x-own; charset=Windows-1251": true, "text/x-own": true,
		"text/x-own; charset=windows-1252": false, "text/x-own; charset=utf-8": false,
	} {
		v, err := received[string](t, contentType, "", "\xe1", patterns.WithCodec(own{}))
		if ok && (err != nil || v != "\xe1") || !ok && !errors.Is(err, patterns.ErrCodec) {
			t.Errorf("%s: %q, %v", contentType, v, err)
		}
	}
}

func Example() {
	ctx := context.Background()
	broker := memory.New()
	bus := patterns.New(broker.Connect())
	defer bus.Close(ctx)
	notes := patterns.NewWorkQueue[string](bus, "notes")
	if err := notes.Declare(ctx); err != nil {
		fmt.Println(err)
	}
	// From a program that has another charset:
	p := adapters.Publication{To: adapters.Endpoint{Name: "notes"}, Properties: adapters.Properties{ContentType: "text/plain; charset=shift_jis"}}
	if err := bus.Driver().Publish(ctx, p, message.NewMessage("1", []byte("\x8e\xf5\x8e\x69"))); err != nil {
		fmt.Println(err)
	}
	note, err := notes.TryGet(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(note.Value, note.Ack(ctx))
	// Output: 寿司 <nil>
}
