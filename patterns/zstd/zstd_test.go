package zstd_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/klauspost/compress/zstd"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	_ "github.com/motifmq/motif/patterns/zstd"
)

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newBus(t *testing.T, opts ...patterns.BusOption) *patterns.Bus {
	t.Helper()
	broker := memory.New()
	bus := patterns.New(broker.Connect(), opts...)
	t.Cleanup(func() {
		if err := bus.Close(bounded(t)); err != nil {
			t.Error(err)
		}
		broker.Close()
	})
	return bus
}

// received sends a payload as somebody else would, and returns what TryGet makes of it.
func received(t *testing.T, contentEncoding string, payload []byte, opts ...patterns.BusOption) (v []byte, err error) {
	t.Helper()
	bus := newBus(t, opts...)
	q := patterns.NewWorkQueue[[]byte](bus, "q")
	if err := q.Declare(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p := adapters.Publication{To: adapters.Endpoint{Name: "q"}, Properties: adapters.Properties{ContentType: "application/octet-stream", ContentEncoding: contentEncoding}}
	if err := bus.Driver().Publish(bounded(t), p, message.NewMessage("1", payload)); err != nil {
		t.Fatal(err)
	}
	got, err := q.TryGet(bounded(t))
	if err != nil {
		dead, err := patterns.NewWorkQueue[patterns.Raw](bus, "q.dead").TryGet(bounded(t))
		if err != nil || !bytes.Equal(dead.Value, payload) || dead.ContentEncoding != contentEncoding {
			t.Errorf("no dead letter that is what came: %v", err)
		}
	} else {
		v = got.Value
	}
	return v, err
}

func encode(t *testing.T, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(data, nil)
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestExpands(t *testing.T) {
	plain := []byte("pad thai")
	zs := encode(t, plain)
	for _, c := range []struct {
		encoding string
		payload  []byte
		want     string
	}{
		{"zstd", zs, "pad thai"},
		{"ZSTD", zs, "pad thai"},
		{"zstd", append(bytes.Clone(zs), zs...), "pad thaipad thai"}, // two frames
		{"gzip, zstd", encode(t, gzipped(t, plain)), "pad thai"},
		{"zstd,gzip", gzipped(t, zs), "pad thai"},
		{"zstd", nil, ""},
	} {
		if v, err := received(t, c.encoding, c.payload); err != nil || string(v) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.encoding, v, err, c.want)
		}
	}
	for name, payload := range map[string][]byte{"cut": zs[:len(zs)-2], "followed": append(bytes.Clone(zs), "more"...), "another": gzipped(t, plain)} {
		if _, err := received(t, "zstd", payload); !errors.Is(err, patterns.ErrCodec) || !strings.Contains(err.Error(), "zstd: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A payload that expands to more than is allowed is refused by as much as is allowed.
func TestZipBombIsTooLarge(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 64<<20)
	single := encode(t, zeros, zstd.WithSingleSegment(true))
	for name, payload := range map[string][]byte{
		"many frames":        bytes.Repeat(encode(t, zeros[:1<<20]), 64),
		"one frame":          encode(t, zeros),
		"one segment":        single,
		"a window too large": encode(t, zeros, zstd.WithWindowSize(32<<20)),
		"a byte too many":    encode(t, zeros[:limit+1]),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := received(t, "zstd", payload, patterns.MaxPayload(limit))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, adapters.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(zeros))*7/8 {
			t.Errorf("%s: took %d bytes of memory in all", name, took)
		}
	}
	if v, err := received(t, "zstd", encode(t, zeros[:limit]), patterns.MaxPayload(limit)); err != nil || len(v) != limit {
		t.Errorf("as much as is allowed: %d bytes, %v", len(v), err)
	}
	if v, err := received(t, "zstd", single, patterns.MaxPayload(len(zeros))); err != nil || len(v) != len(zeros) {
		t.Errorf("one segment of as much as is allowed: %d bytes, %v", len(v), err)
	}
}

// Writers and readers are used again, by many at once, also after one that failed.
func TestSendsAndReceives(t *testing.T) {
	bus := newBus(t, patterns.Compress(patterns.Zstd))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			q := patterns.NewWorkQueue[string](bus, fmt.Sprintf("q%d", i))
			long := strings.Repeat(fmt.Sprintf("noodles %d ", i), 10_000)
			for range 20 {
				if err := q.Send(bounded(t), long); err != nil {
					t.Error(err)
					return
				}
				raw, err := patterns.NewWorkQueue[patterns.Raw](bus, fmt.Sprintf("q%d", i)).TryGet(bounded(t))
				if err != nil {
					t.Error(err)
					return
				}
				if raw.ContentEncoding != "zstd" || len(raw.Value) > 2000 {
					t.Errorf("%d bytes as %q", len(raw.Value), raw.ContentEncoding)
				}
				if err := raw.Requeue(bounded(t)); err != nil {
					t.Error(err)
				}
				got, err := q.TryGet(bounded(t))
				if err != nil || got.Value != long {
					t.Errorf("%d bytes, %v", len(got.Value), err)
				}
				if err := got.Ack(bounded(t)); err != nil {
					t.Error(err)
				}
				if _, err := received(t, "zstd", []byte("\x28\xb5\x2f\xfdgarbage")); !errors.Is(err, patterns.ErrCodec) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func FuzzReceive(f *testing.F) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.EncodeAll([]byte(`{"id":1}`), nil))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := received(t, "zstd", data, patterns.MaxPayload(1<<16)); err == nil && len(v) > 1<<16 {
			t.Errorf("%d bytes came", len(v))
		}
	})
}

func Example() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect(), patterns.Compress(patterns.Zstd))
	defer bus.Close(ctx)
	menus := patterns.NewWorkQueue[[]string](bus, "menus")
	if err := menus.Send(ctx, []string{"pad thai", "pho"}); err != nil {
		fmt.Println(err)
	}
	menu, err := menus.TryGet(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := json.Marshal(menu.Value)
	fmt.Println(string(text), menu.ContentEncoding, err)
	fmt.Println(menu.Ack(ctx))
	// Output:
	// ["pad thai","pho"] zstd <nil>
	// <nil>
}
