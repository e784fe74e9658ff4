package patterns_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func compressed(t testing.TB, payload string, with func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	var out bytes.Buffer
	w, err := with(&out)
	must(t, err)
	_, err = io.WriteString(w, payload)
	must(t, err)
	must(t, w.Close())
	return out.String()
}

var (
	withGzip    = func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	withZlib    = func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }
	withDeflate = func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 9) }
)

// What came compressed is expanded for the handler, in as many steps as its sender took.
func TestContentEncodingsAreUndone(t *testing.T) {
	const plain = `{"dish":"pad thai"}`
	gz, zl, fl := compressed(t, plain, withGzip), compressed(t, plain, withZlib), compressed(t, plain, withDeflate)
	for _, c := range []struct{ encoding, payload string }{
		{"", plain},
		{"identity", plain},
		{"binary", plain},
		{"utf-8", plain},
		{"gzip", gz},
		{"GZip", gz},
		{"x-gzip", gz},
		{"gzip, identity", gz},
		{"gzip:UTF-8", gz}, // Spring's
		{"gzip, utf-8", gz},
		{"gzip", compressed(t, plain[:5], withGzip) + compressed(t, plain[5:], withGzip)}, // two members
		{"deflate", zl},
		{"deflate", fl}, // against the standard, and common
		{"gzip, deflate", compressed(t, gz, withZlib)},
		{"deflate,gzip", compressed(t, zl, withGzip)},
		{"gzip,gzip", compressed(t, gz, withGzip)},
	} {
		if v, err := received[order](t, adapters.Properties{ContentEncoding: c.encoding}, c.payload); err != nil || v.Dish != "pad thai" {
			t.Errorf("%q: %+v, %v", c.encoding, v, err)
		}
	}
	for _, c := range []struct{ encoding, payload, says string }{
		{"br", "\x0b\x09\x80", `content encoding "br" is not known`},
		{"gzip, compress", gz, `"compress" is not known`},
		{"gzip", plain, "gzip: "},
		{"gzip", gz[:len(gz)-5], "gzip: "},
		{"gzip", gz + "more", "gzip: "},
		{"deflate", zl + "more", "after the end"},
		{"deflate", fl + "more", "after the end"},
		{"gzip, deflate", gz, "deflate: "},
		{"zstd", "\x28\xb5\x2f\xfd", `import _ "github.com/motifmq/motif/patterns/zstd"`},
		{"gzip, zstd", "\x28\xb5\x2f\xfd", `import _ "github.com/motifmq/motif/patterns/zstd"`},
		{"windows-1252", plain, `import _ "github.com/motifmq/motif/patterns/charset"`},
		{"gzip,gzip,gzip,gzip,gzip", gz, "at most 4"},
	} {
		_, err := received[order](t, adapters.Properties{ContentEncoding: c.encoding}, c.payload)
		if !errors.Is(err, patterns.ErrCodec) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %s", c.encoding, err, c.says)
		}
	}
}

// A payload that expands to more than is allowed is refused by as much as is allowed, at each step.
func TestZipBombIsTooLarge(t *testing.T) {
	const limit = 1 << 20
	zeros := strings.Repeat("\x00", 64<<20)
	many := func(with func(io.Writer) (io.WriteCloser, error)) string { // one after the other are one, too
		return strings.Repeat(compressed(t, zeros[:1<<20], with), 64)
	}
	gz := many(withGzip)
	for name, c := range map[string]struct{ encoding, payload string }{
		"gzip":            {"gzip", gz},
		"deflate":         {"deflate", compressed(t, zeros[:4<<20], withZlib)},
		"raw deflate":     {"deflate", compressed(t, zeros[:4<<20], withDeflate)},
		"somebody's own":  {"x-endless", "x"},
		"twice":           {"gzip, gzip", compressed(t, gz, withGzip)},
		"much of nothing": {"gzip, gzip", compressed(t, strings.Repeat(compressed(t, "", withGzip), 1<<18), withGzip)},
		"gzip in deflate": {"gzip, deflate", compressed(t, gz, withZlib)},
		"a byte too many": {"gzip", compressed(t, zeros[:limit+1], withGzip)},
	} {
		bus, _ := newBus(t, patterns.MaxPayload(limit))
		q := patterns.NewWorkQueue[[]byte](bus, "q")
		must(t, q.Declare(bounded(t)))
		publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{ContentType: "application/octet-stream", ContentEncoding: c.encoding}, c.payload)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := q.TryGet(bounded(t))
		runtime.ReadMemStats(&after)
		wantErr(t, name, err, adapters.ErrTooLarge)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(zeros))*7/8 {
			t.Errorf("%s: took %d bytes of memory in all", name, took)
		}
	}
	for _, most := range []int{limit, math.MaxInt} {
		v, err := received[[]byte](t, adapters.Properties{ContentType: "application/octet-stream", ContentEncoding: "gzip"},
			compressed(t, zeros[:limit], withGzip), patterns.MaxPayload(most))
		if err != nil || len(v) != limit {
			t.Errorf("as much as is allowed: %d bytes, %v", len(v), err)
		}
	}
}

// endless expands everything to more than anybody can hold, and does not care about limits.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (endless) Close() error               { return nil }

func init() {
	patterns.RegisterCoding("x-endless", patterns.Compression{
		NewWriter: func(io.Writer) (io.WriteCloser, error) { return nil, errKitchen },
		NewReader: func(*bytes.Reader, int) (io.ReadCloser, error) { return endless{}, nil },
	})
	patterns.RegisterCoding("x-plain", patterns.Compression{
		NewWriter: func(w io.Writer) (io.WriteCloser, error) { return plainWriter{w}, nil },
		NewReader: func(r *bytes.Reader, _ int) (io.ReadCloser, error) {
			if b, err := r.ReadByte(); err != nil || b != '=' {
				panic("x-plain begins with =")
			}
			return io.NopCloser(io.LimitReader(r, int64(r.Len()-1))), nil // but for the last byte
		},
	})
}

type plainWriter struct{ io.Writer }

func (w plainWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(append([]byte{'='}, p...))
	return n - 1, err
}

func (w plainWriter) Close() error {
	_, err := w.Writer.Write([]byte("."))
	return err
}

// What a registered coding does wrong is the message's fault, not the worker's.
func TestRegisteredCodingIsNotTrusted(t *testing.T) {
	for payload, says := range map[string]string{`="rice".`: "1 bytes come after the end", "rice": "x-plain begins with ="} {
		_, err := received[string](t, adapters.Properties{ContentType: "application/json", ContentEncoding: "x-plain"}, payload)
		if !errors.Is(err, patterns.ErrCodec) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", payload, err, says)
		}
	}
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[string](bus, "q")
	must(t, q.Send(bounded(t), "rice", patterns.Compress("x-plain")))
	if raw := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q")); string(raw.Value) != `="rice".` || raw.ContentEncoding != "x-plain" {
		t.Errorf("sent %q as %q", raw.Value, raw.ContentEncoding)
	}
	wantErr(t, "a writer that fails", q.Send(bounded(t), "rice", patterns.Compress("x-endless")), errKitchen)
}

func TestRegisterCodingRefuses(t *testing.T) {
	whole := patterns.Compression{
		NewWriter: func(io.Writer) (io.WriteCloser, error) { return nil, nil },
		NewReader: func(*bytes.Reader, int) (io.ReadCloser, error) { return nil, nil },
	}
	for _, c := range []struct {
		name patterns.Coding
		with patterns.Compression
	}{
		{"gzip", whole},
		{"identity", whole},
		{"x-plain", whole},
		{"", whole},
		{"GZ", whole},
		{"a,b", whole},
		{"x-new", patterns.Compression{NewWriter: whole.NewWriter}},
		{"x-new", patterns.Compression{NewReader: whole.NewReader}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", c.name)
				}
			}()
			patterns.RegisterCoding(c.name, c.with)
		}()
	}
}

func TestCompress(t *testing.T) {
	long := strings.Repeat("noodles ", 10_000)
	for _, coding := range []patterns.Coding{patterns.Gzip, patterns.Deflate} {
		bus, _ := newBus(t, patterns.Compress(coding))
		q := patterns.NewWorkQueue[string](bus, "q")
		for range 3 {
			must(t, q.Send(bounded(t), long))
		}
		raw := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q"))
		if raw.ContentEncoding != string(coding) || len(raw.Value) > 2000 || raw.ContentType != "application/json" {
			t.Errorf("%s: %d bytes as %q, %q", coding, len(raw.Value), raw.ContentType, raw.ContentEncoding)
		}
		for range 2 {
			if got := take(t, q); got.Value != long {
				t.Errorf("%s: %d bytes came", coding, len(got.Value))
			}
		}
		must(t, q.Send(bounded(t), "short", patterns.Compress(patterns.Identity)))
		if got := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q")); got.ContentEncoding != "" || string(got.Value) != `"short"` {
			t.Errorf("not compressed: %q as %q", got.Value, got.ContentEncoding)
		}
		rpc := patterns.NewRPC[string, string](bus, "f")
		encodings := newJournal[string]()
		_, err := rpc.Serve(bounded(t), func(ctx context.Context, s string) (string, error) {
			d, _ := patterns.DeliveryFrom(ctx)
			encodings.add(d.ContentEncoding)
			if s == "" {
				return "", errKitchen
			}
			return s + s, nil
		})
		must(t, err)
		answer, err := rpc.Call(bounded(t), long)
		if must(t, err); answer != long+long || encodings.await(t, 1)[0] != string(coding) {
			t.Errorf("%s: a reply of %d bytes to a request as %q", coding, len(answer), encodings.await(t, 1)[0])
		}
		_, err = rpc.Call(bounded(t), "")
		if _, ok := errors.AsType[*patterns.RemoteError](err); !ok {
			t.Errorf("a reply that is an error: %v", err)
		}
	}
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[string](bus, "q", patterns.Compress(patterns.Gzip))
	must(t, q.Send(bounded(t), long))
	if got := take(t, q); got.Value != long || got.ContentEncoding != "gzip" {
		t.Errorf("a queue that compresses: %d bytes as %q", len(got.Value), got.ContentEncoding)
	}
	for _, opt := range []patterns.PublishOption{patterns.Compress("br"), patterns.Compress("")} {
		wantErr(t, "a coding there is not", q.Send(bounded(t), "x", opt), adapters.ErrInvalid)
	}
	wantErr(t, "two codings", q.Send(bounded(t), "x", patterns.Compress(patterns.Gzip), patterns.Compress(patterns.Deflate)), adapters.ErrInvalid)
	err := q.Send(bounded(t), "x", patterns.Compress(patterns.Zstd))
	if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), `import _ "github.com/motifmq/motif/patterns/zstd"`) {
		t.Errorf("zstd without its import: %v", err)
	}
}

// The handler gets a payload expanded; what is sent on is still what came.
func TestCompressedMessageIsSentOnAsItCame(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "q")
		payload := compressed(t, `{"dish":"soup"}`, withGzip)
		tries := 0
		_, err := q.Work(t.Context(), func(ctx context.Context, o order) error {
			tries++
			if d, _ := patterns.DeliveryFrom(ctx); o.Dish != "soup" || string(d.Payload) != payload || d.ContentEncoding != "gzip" {
				t.Errorf("try %d: %+v of %q as %q", tries, o, d.Payload, d.ContentEncoding)
			}
			return errKitchen
		}, patterns.Retry(patterns.RetryPolicy{Attempts: 3}))
		must(t, err)
		publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{ContentType: "application/json; charset=utf-8", ContentEncoding: "gzip"}, payload)
		time.Sleep(time.Hour)
		synctest.Wait()
		dead := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "q.dead"))
		if tries != 3 || string(dead.Value) != payload || dead.ContentEncoding != "gzip" || dead.ContentType != "application/json; charset=utf-8" {
			t.Errorf("after %d tries %q as %q, %q", tries, dead.Value, dead.ContentType, dead.ContentEncoding)
		}
	})
}
