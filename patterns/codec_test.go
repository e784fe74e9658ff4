package patterns_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// One queue takes what publishers with other codecs send: the content type
// tells.
func TestContentTypeChoosesTheCodec(t *testing.T) {
	bus, _ := newBus(t, patterns.WithCodec(patterns.JSON{}, xmlCodec{"application/xml"}))
	send := func(c patterns.Codec, v string) {
		t.Helper()
		must(t, patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithCodec(c)), "q").Send(bounded(t), v))
	}
	q := patterns.NewWorkQueue[string](bus, "q")
	for _, c := range []patterns.Codec{patterns.JSON{}, patterns.Text{}, patterns.Bytes{}, xmlCodec{"application/xml"}} {
		send(c, "naïve")
		got, err := q.TryGet(bounded(t))
		must(t, err)
		must(t, got.Ack(bounded(t)))
		if got.Value != "naïve" || got.ContentType != c.ContentType() {
			t.Errorf("%T: got %q as %s", c, got.Value, got.ContentType)
		}
	}
	wantErr(t, "text that is not UTF-8", patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithCodec(patterns.Text{})), "q").Send(bounded(t), "\xff"), patterns.ErrCodec)
	wantErr(t, "text of a number", patterns.NewWorkQueue[int](patterns.New(bus.Driver(), patterns.WithCodec(patterns.Text{})), "q").Send(bounded(t), 1), patterns.ErrCodec)
	wantErr(t, "bytes of a number", patterns.NewWorkQueue[int](patterns.New(bus.Driver(), patterns.WithCodec(patterns.Bytes{})), "q").Send(bounded(t), 1), patterns.ErrCodec)
}

func TestOversizePayloadIsNotDecoded(t *testing.T) {
	bus, _ := newBus(t, patterns.MaxPayload(10))
	q := patterns.NewWorkQueue[string](bus, "q")
	must(t, q.Declare(bounded(t)))
	publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{}, `"0123456789"`)
	_, err := q.TryGet(bounded(t))
	wantErr(t, "TryGet", err, adapters.ErrTooLarge)
	if info := bus.Stats(); info.DeadLettered != 1 {
		t.Errorf("%+v", info)
	}
}

func TestBytesAreTheReceiversOwn(t *testing.T) {
	bus, _ := newBus(t, patterns.WithCodec(patterns.Bytes{}))
	ps := patterns.NewPubSub[[]byte](bus, "p")
	got := newJournal[string]()
	for range 2 {
		_, err := ps.Subscribe(bounded(t), func(_ context.Context, b []byte) error { got.add(string(b)); b[0] = 'X'; return nil })
		must(t, err)
	}
	data := []byte("abc")
	must(t, ps.Publish(bounded(t), data))
	data[0] = 'Y'
	for _, s := range got.await(t, 2) {
		if s != "abc" {
			t.Errorf("got %q", s)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("application/json", "", []byte(`{"id":1,"dish":"x"}`))
	f.Add("text/plain; charset=utf-8", "identity", []byte("x"))
	f.Add("application/octet-stream", "utf-8", []byte{0xff})
	f.Add("application/json; a=\"", "br", []byte("["))
	f.Add("application/json; charset=utf-16", "gzip, deflate", []byte(compressed(f, compressed(f, "\xff\xfe{\x00}\x00", withGzip), withDeflate)))
	f.Add("a/b+json; iso-8859-1", "deflate", []byte(compressed(f, `{"id":1}`, withZlib)))
	f.Add("", "", []byte(nil))
	bus, _ := newBus(f)
	q := patterns.NewWorkQueue[order](bus, "q", patterns.NoDeadLetter())
	must(f, q.Declare(context.Background()))
	f.Fuzz(func(t *testing.T, contentType, contentEncoding string, data []byte) {
		p := adapters.Publication{To: adapters.Endpoint{Name: "q"}, Properties: adapters.Properties{ContentType: contentType, ContentEncoding: contentEncoding}}
		if bus.Driver().Publish(context.Background(), p, rawMessage(data)) != nil {
			return // refused: not a content type that can travel
		}
		got, err := q.TryGet(context.Background())
		if err == nil {
			must(t, got.Ack(context.Background()))
		}
		_, err = q.TryGet(context.Background())
		wantErr(t, "the queue after one message", err, adapters.ErrEmpty)
	})
}

// smallDriver takes messages of up to 10 bytes.
type smallDriver struct{ *memory.Client }

func (d smallDriver) Features() adapters.Features {
	f := d.Client.Features()
	f.MaxBody = 10
	return f
}

func TestPayloadsUpToTheLimit(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	for name, bus := range map[string]*patterns.Bus{
		"the driver's": patterns.New(smallDriver{broker.Connect()}),
		"the bus's":    patterns.New(broker.Connect(), patterns.MaxPayload(10)),
	} {
		q := patterns.NewWorkQueue[string](bus, "q")
		must(t, q.Send(bounded(t), "12345678"))
		wantErr(t, name+" limit and one more", q.Send(bounded(t), "123456789"), adapters.ErrTooLarge)
		got, err := q.TryGet(bounded(t))
		must(t, err)
		must(t, got.Ack(bounded(t)))
		must(t, bus.Close(bounded(t)))
	}
}

func TestBytesAreWholeAtEachTry(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[[]byte](bus, "q")
		var got []string
		_, err := q.Work(t.Context(), func(ctx context.Context, b []byte) error {
			d, _ := patterns.DeliveryFrom(ctx)
			got = append(got, string(b)+d.Headers["mine"])
			d.Headers["mine"] = "written"
			if again, _ := patterns.DeliveryFrom(ctx); again.Headers["mine"] != "" {
				t.Error("the headers are not the caller's own")
			}
			clear(b)
			return errKitchen
		}, patterns.Retry(patterns.RetryPolicy{Attempts: 2, InProcess: true}))
		must(t, err)
		must(t, q.Send(t.Context(), []byte("abc")))
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(got, []string{"abc", "abc"}) {
			t.Errorf("got %q", got)
		}
	}, patterns.WithCodec(patterns.Bytes{}))
}
