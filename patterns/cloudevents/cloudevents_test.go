package cloudevents_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/internal/leaktest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/cloudevents"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type order struct {
	Dish string `json:"dish"`
}

type (
	event = cloudevents.Event[order]
	attrs = cloudevents.Attributes
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newBus(t testing.TB, opts ...patterns.BusOption) *patterns.Bus {
	t.Helper()
	broker := memory.New()
	bus := patterns.New(broker.Connect(), opts...)
	t.Cleanup(func() {
		must(t, bus.Close(context.Background()))
		broker.Close()
	})
	return bus
}

// raw takes the next message of a queue as it is.
func raw(t *testing.T, bus *patterns.Bus, queue string) *patterns.Message[patterns.Raw] {
	t.Helper()
	m, err := patterns.NewWorkQueue[patterns.Raw](bus, queue).Get(bounded(t))
	must(t, err)
	must(t, m.Ack(bounded(t)))
	return m
}

// publish publishes as a foreign program would.
func publish(t testing.TB, bus *patterns.Bus, queue, contentType string, headers map[string]string, payload string) {
	t.Helper()
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Properties: adapters.Properties{ContentType: contentType}, Mandatory: true}
	m := message.NewMessage("", []byte(payload))
	maps.Copy(m.Metadata, headers)
	must(t, bus.Driver().Publish(bounded(t), p, m))
}

// ce are the attributes of an event as headers, with more of them in pairs.
func ce(prefix string, more ...string) map[string]string {
	h := map[string]string{prefix + "specversion": "1.0", prefix + "id": "7", prefix + "source": "/shop", prefix + "type": "order.placed"}
	for i := 0; i < len(more); i += 2 {
		if h[prefix+more[i]] = more[i+1]; more[i+1] == "" {
			delete(h, prefix+more[i])
		}
	}
	return h
}

// TestSent: what is on the wire, in either mode.
func TestSent(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.FixedZone("", 3600))
	full := event{attrs{
		ID: "7", Source: "/shop", Type: "order.placed", Subject: "table 4", DataSchema: "https://example.com/order", Time: at,
		Extensions: map[string]string{"tenant": "blue"},
	}, order{"larb"}}
	bus := newBus(t)
	ctx := bounded(t)
	want := map[string]string{
		"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.placed", "subject": "table 4",
		"dataschema": "https://example.com/order", "time": "2026-01-02T02:04:05.6Z", "tenant": "blue",
	}
	for _, prefix := range []string{cloudevents.PrefixAMQP, cloudevents.PrefixJMS, cloudevents.PrefixRabbitMQ} {
		q := patterns.NewWorkQueue[event](bus, "q", cloudevents.BinaryPrefix(prefix, ""))
		must(t, q.Send(ctx, full, patterns.Header("name", "value")))
		m := raw(t, bus, "q")
		headers := map[string]string{"name": "value"}
		for name, value := range want {
			headers[prefix+name] = value
		}
		if !maps.Equal(m.Headers, headers) || string(m.Value) != `{"dish":"larb"}` || m.ContentType != "application/json" || m.Type != "order.placed" || m.ID != "7" {
			t.Errorf("%s: sent %+v", prefix, m.Delivery)
		}
	}
	must(t, patterns.NewWorkQueue[*event](bus, "q", cloudevents.Structured("")).Send(ctx, &full, patterns.Header("name", "value")))
	m := raw(t, bus, "q")
	var members map[string]any
	must(t, json.Unmarshal(m.Value, &members))
	wantMembers := map[string]any{"datacontenttype": "application/json", "data": map[string]any{"dish": "larb"}}
	for name, value := range want {
		wantMembers[name] = value
	}
	if !reflect.DeepEqual(members, wantMembers) || !maps.Equal(m.Headers, map[string]string{"name": "value"}) ||
		m.ContentType != "application/cloudevents+json; charset=utf-8" || m.Type != "order.placed" || m.ID != "7" {
		t.Errorf("structured: sent %s with %+v", m.Value, m.Delivery)
	}
	for _, c := range []struct {
		codec patterns.Codec
		value any
		want  string
	}{
		{patterns.Text{}, "larb\nหมู", `"data":"larb\nหมู"`},
		{patterns.Bytes{}, "\x00\xff", `"data_base64":"AP8="`},
		{patterns.JSON{}, "<larb>", `"data":"\u003clarb\u003e"`}, // as the codec has it
	} {
		q := patterns.NewWorkQueue[any](bus, "q", cloudevents.Structured("/shop"))
		must(t, q.Send(ctx, c.value, patterns.WithCodec(c.codec), patterns.Type("t")))
		if m := raw(t, bus, "q"); !strings.Contains(string(m.Value), c.want) {
			t.Errorf("%T: sent %s, want %s in it", c.codec, m.Value, c.want)
		}
	}
}

// TestPlainPayloads: neither sender nor handler need know of events.
func TestPlainPayloads(t *testing.T) {
	for name, option := range map[string]patterns.EnvelopeOption{"binary": cloudevents.Binary("/shop"), "structured": cloudevents.Structured("/shop")} {
		t.Run(name, func(t *testing.T) {
			bus := newBus(t, patterns.Compress(patterns.Gzip))
			q := patterns.NewTopic[order](bus, "x", option)
			got := make(chan attrs, 1)
			sub, err := q.Subscribe(t.Context(), []string{"#"}, func(ctx context.Context, o order) error {
				a, _ := cloudevents.FromContext(ctx)
				if o.Dish == "larb" {
					got <- a
				}
				return nil
			})
			must(t, err)
			before := time.Now()
			must(t, q.Publish(bounded(t), "k", order{"larb"}, patterns.Type("order.placed"), cloudevents.Subject("4"), cloudevents.Attribute("tenant", "blue"), patterns.MessageID("7")))
			a := <-got
			if a.Time.Before(before.Add(-time.Second)) || a.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("at %v", a.Time)
			}
			a.Time = time.Time{}
			want := attrs{ID: "7", Source: "/shop", Type: "order.placed", Subject: "4", DataContentType: "application/json", Extensions: map[string]string{"tenant": "blue"}}
			if !reflect.DeepEqual(a, want) {
				t.Errorf("got %+v, want %+v", a, want)
			}
			must(t, sub.Stop(bounded(t)))
		})
	}
	if _, ok := cloudevents.FromContext(t.Context()); ok {
		t.Error("an event outside of a handler")
	}
	d := patterns.Delivery{Headers: ce("ce-"), Payload: []byte(`1`)}
	if a, ok := cloudevents.FromContext(patterns.ContextWithDelivery(t.Context(), d)); !ok || a.ID != "7" {
		t.Errorf("of a delivery made by hand: %+v, %v", a, ok)
	}
}

// TestReceived: what foreign senders do, and what is refused.
func TestReceived(t *testing.T) {
	whole := func(members string) string {
		return `{"specversion":"1.0","id":"7","source":"/shop","type":"order.placed"` + members + `}`
	}
	const structured = "application/cloudevents+json"
	larb := func(a attrs) event {
		a.ID, a.Source, a.Type = "7", "/shop", "order.placed"
		return event{a, order{"larb"}}
	}
	for _, c := range []struct {
		name        string
		contentType string
		headers     map[string]string
		payload     string
		want        any // an event, or a part of the error
	}{
		{"by AMQP's binding", "application/json", ce("cloudEvents:"), `{"dish":"larb"}`, larb(attrs{DataContentType: "application/json"})},
		{"by way of JMS", "application/json; charset=utf-8", ce("cloudEvents_", "subject", "4"), `{"dish":"larb"}`, larb(attrs{DataContentType: "application/json; charset=utf-8", Subject: "4"})},
		{"by Knative", "text/json", ce("ce-", "tenant", "blue", "time", "2026-01-02T03:04:05Z"), `{"dish":"larb"}`, larb(attrs{DataContentType: "text/json", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Extensions: map[string]string{"tenant": "blue"}})},
		{"through HTTP", "", map[string]string{"Ce-Id": "7", "Ce-Source": "/shop", "Ce-Type": "order.placed", "Ce-Specversion": "1.0", "ce-other-thing": "x"}, `{"dish":"larb"}`, larb(attrs{})},
		{"with a native time", "application/json", ce("cloudEvents:", "time", "1767323045000"), `{"dish":"larb"}`, larb(attrs{DataContentType: "application/json", Time: time.Unix(1767323045, 0).UTC()})},
		{"without data", "application/json", ce("cloudEvents:"), "", event{attrs{ID: "7", Source: "/shop", Type: "order.placed", DataContentType: "application/json"}, order{}}},
		{"twice the same", "", map[string]string{"ce-id": "7", "cloudEvents:id": "7", "ce-source": "/shop", "ce-type": "order.placed", "ce-specversion": "1.0"}, `{"dish":"larb"}`, larb(attrs{})},
		{"structured", structured, nil, whole(`,"data":{"dish":"larb"}`), larb(attrs{DataContentType: "application/json"})},
		{"structured, with more", structured + "; charset=UTF-8", ce("ce-", "id", "another"), "\ufeff" + whole(`,"datacontenttype":"application/vnd.order+json; charset=utf-16","time":"2026-01-02t03:04:05+01:00","flag":true,"count":-3,"gone":null,"data":{"dish":"larb"}`), larb(attrs{DataContentType: "application/vnd.order+json; charset=utf-16", Time: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), Extensions: map[string]string{"flag": "true", "count": "-3"}})},
		{"structured, in base64", structured, nil, whole(`,"data_base64":"eyJkaXNoIjoibGFyYiJ9"`), larb(attrs{DataContentType: "application/json"})},
		{"structured, without data", structured, nil, whole(``), event{attrs{ID: "7", Source: "/shop", Type: "order.placed", DataContentType: "application/json"}, order{}}},

		{"a plain message", "application/json", nil, `{"dish":"larb"}`, "no specversion, no id, no source, no type"},
		{"no id", "application/json", ce("cloudEvents:", "id", ""), "{}", "it has no id"},
		{"no source", "application/json", ce("ce-", "source", ""), "{}", "no source"},
		{"no type", "application/json", ce("ce-", "type", ""), "{}", "no type"},
		{"no version", "application/json", ce("ce-", "specversion", ""), "{}", "no specversion"},
		{"an old version", "application/json", ce("ce-", "specversion", "0.3"), "{}", `specversion "0.3"`},
		{"no time", "application/json", ce("ce-", "time", "yesterday"), "{}", `time "yesterday"`},
		{"no source that one can read", "application/json", ce("ce-", "source", ":"), "{}", "no URI reference"},
		{"a relative schema", "application/json", ce("ce-", "dataschema", "order"), "{}", "dataschema"},
		{"two ids", "application/json", map[string]string{"ce-id": "7", "cloudEvents:id": "8"}, "{}", "two values of attribute id"},
		{"a batch", "application/cloudevents-batch+json", nil, `[]`, "batched format"},
		{"another batch", "application/cloudevents-batch", nil, `[]`, "batched format"},
		{"another format", "application/cloudevents+avro", nil, ``, "event format application/cloudevents+avro"},
		{"structured: no id", structured, nil, strings.Replace(whole(""), `"id":"7"`, `"id":null`, 1), "it has no id"},
		{"structured: nothing", structured, nil, `{}`, "no specversion"},
		{"structured: a batch", structured, nil, `[]`, "no JSON object"},
		{"structured: no JSON", structured, nil, `{`, "no JSON object"},
		{"structured: not UTF-8", structured, nil, "{\"id\":\"\xff\"}", "not UTF-8"},
		{"structured: another charset", structured + "; charset=utf-16", nil, `{}`, "charset"},
		{"structured: both data", structured, nil, whole(`,"data":1,"data_base64":""`), "both"},
		{"structured: no base64", structured, nil, whole(`,"data_base64":"?"`), "data_base64"},
		{"structured: no text", structured, nil, whole(`,"datacontenttype":"text/plain","data":{}`), "has to be a string"},
		{"structured: a name", structured, nil, whole(`,"Tenant":"blue"`), `the name "Tenant"`},
		{"structured: no simple value", structured, nil, whole(`,"tenant":{}`), "attribute tenant"},
		{"structured: no whole number", structured, nil, whole(`,"tenant":1.5`), "attribute tenant"},
		{"data that does not decode", "application/json", ce("ce-"), `[]`, "decoding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bus := newBus(t)
			q := patterns.NewWorkQueue[event](bus, "q", cloudevents.Binary(""))
			must(t, q.Declare(bounded(t)))
			publish(t, bus, "q", c.contentType, c.headers, c.payload)
			m, err := q.Get(bounded(t))
			if want, ok := c.want.(event); ok {
				must(t, err)
				must(t, m.Ack(bounded(t)))
				if !m.Value.Time.Equal(want.Time) {
					t.Errorf("at %v, want %v", m.Value.Time, want.Time)
				}
				m.Value.Time = want.Time
				if !reflect.DeepEqual(m.Value, want) {
					t.Errorf("got %+v, want %+v", m.Value, want)
				}
				if a, err := cloudevents.FromDelivery(m.Delivery); err != nil || a.ID != want.ID || a.Subject != want.Subject {
					t.Errorf("FromDelivery: %+v, %v", a, err)
				}
				return
			}
			if !errors.Is(err, patterns.ErrCodec) || !strings.Contains(err.Error(), c.want.(string)) {
				t.Fatalf("got %v, want an ErrCodec with %q", err, c.want)
			}
			if letter := raw(t, bus, "q.dead"); !strings.Contains(letter.Headers[patterns.HeaderReason], c.want.(string)) {
				t.Errorf("a dead letter for %q", letter.Headers[patterns.HeaderReason])
			}
		})
	}
}

// TestRefused: what is no event is not sent.
func TestRefused(t *testing.T) {
	bus := newBus(t)
	ctx := bounded(t)
	good := attrs{ID: "7", Source: "/shop", Type: "t"}
	for name, c := range map[string]struct {
		change func(*attrs)
		opts   []patterns.PublishOption
		want   string
	}{
		"no source":        {func(a *attrs) { a.Source = "" }, nil, "no source"},
		"no type":          {func(a *attrs) { a.Type = "" }, nil, "no type"},
		"a bad source":     {func(a *attrs) { a.Source = ":" }, nil, "source"},
		"a bad schema":     {func(a *attrs) { a.DataSchema = "x" }, nil, "dataschema"},
		"a bad time":       {func(a *attrs) { a.Time = time.Date(12026, 1, 1, 1, 1, 1, 1, time.UTC) }, nil, "year"},
		"a control":        {func(a *attrs) { a.Subject = "\n" }, nil, "control"},
		"not UTF-8":        {func(a *attrs) { a.Subject = "\xff" }, nil, "UTF-8"},
		"a bad name":       {func(a *attrs) { a.Extensions = map[string]string{"Tenant": "x"} }, nil, `"Tenant"`},
		"a taken name":     {func(a *attrs) { a.Extensions = map[string]string{"data": "x"} }, nil, `"data"`},
		"an empty one":     {func(a *attrs) { a.Extensions = map[string]string{"tenant": ""} }, nil, "tenant"},
		"a name by option": {nil, []patterns.PublishOption{cloudevents.Attribute("Tenant!", "x")}, `"Tenant!"`},
		"another type":     {nil, []patterns.PublishOption{patterns.Type("other")}, "other"},
	} {
		e := event{Attributes: good}
		if c.change != nil {
			c.change(&e.Attributes)
		}
		for _, option := range []patterns.EnvelopeOption{cloudevents.Binary(""), cloudevents.Structured("")} {
			err := patterns.NewWorkQueue[event](bus, "q", option).Send(ctx, e, c.opts...)
			if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want ErrInvalid with %q", name, err, c.want)
			}
		}
	}
	for _, option := range []patterns.EnvelopeOption{cloudevents.Binary(":"), cloudevents.BinaryPrefix("x-", "/shop"), patterns.WithEnvelope(nil)} {
		if err := patterns.NewWorkQueue[order](bus, "q", option).Declare(ctx); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("a bad option: %v", err)
		}
	}
	if err := patterns.NewWorkQueue[order](bus, "q", cloudevents.Binary(""), cloudevents.Binary("")).Declare(ctx); !errors.Is(err, adapters.ErrInvalid) {
		t.Errorf("two envelopes: %v", err)
	}
}

// TestTypesAndEvents: the type attribute says which Go type it is, in either mode.
func TestTypesAndEvents(t *testing.T) {
	types := patterns.NewTypes[any](patterns.Named[order]("order.placed"), patterns.Named[string]("order.cancelled"))
	bus := newBus(t)
	ctx := bounded(t)
	for _, option := range []patterns.EnvelopeOption{cloudevents.Binary("/shop"), cloudevents.Structured("/shop")} {
		q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(types), option)
		must(t, q.SendBatch(ctx, []any{order{"larb"}, cloudevents.Event[string]{attrs{ID: "8"}, "late"}}))
		events := patterns.NewWorkQueue[cloudevents.Event[any]](bus, "q", patterns.WithTypes(types), option)
		for _, want := range []struct {
			kind string
			data any
		}{{"order.placed", order{"larb"}}, {"order.cancelled", "late"}} {
			m, err := events.Get(ctx)
			must(t, err)
			if m.Value.Type != want.kind || m.Value.Data != want.data || m.Type != want.kind {
				t.Errorf("got %+v, want %+v", m.Value, want)
			}
			onward := patterns.NewWorkQueue[any](bus, "onward", patterns.WithTypes(types), option)
			must(t, onward.Send(ctx, m.Value.Data, patterns.AsReceived(m.Delivery))) // with the event's own id and time
			must(t, m.Ack(ctx))
			again, err := onward.Get(ctx)
			must(t, err)
			must(t, again.Ack(ctx))
			a, err := cloudevents.FromDelivery(again.Delivery)
			must(t, err)
			if was := m.Value.Attributes; again.Value != want.data || a.ID != was.ID || !a.Time.Equal(was.Time) {
				t.Errorf("sent as received: %+v, was %+v", a, was)
			}
		}
	}
	publish(t, bus, "q", "application/json", ce("ce-"), `{"dish":"larb"}`) // without AMQP's type
	publish(t, bus, "q", "application/json", ce("ce-", "type", "order.shipped"), `7`)
	q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(types), cloudevents.Binary("/shop"))
	m, err := q.Get(ctx)
	if must(t, err); m.Value != any(order{"larb"}) {
		t.Errorf("got %v", m.Value)
	}
	must(t, m.Ack(ctx))
	_, err = q.Get(ctx)
	if unknown, ok := errors.AsType[*patterns.UnknownTypeError](err); !ok || unknown.Type != "order.shipped" {
		t.Errorf("an event of an unknown type: %v", err)
	}
}

// FuzzReceive: whatever comes, it is an event or a dead letter, and an event can be sent and
// received again.
func FuzzReceive(f *testing.F) {
	f.Add("application/cloudevents+json", "ce-id", "7", `{"specversion":"1.0","id":"7","source":"/shop","type":"t","x":1,"data":{"dish":"larb"}}`)
	f.Add("application/cloudevents+json; charset=utf-8", "", "", `{"specversion":"1.0","id":"7","source":"/shop","type":"t","datacontenttype":"text/plain","data":"x"}`)
	f.Add("text/plain", "cloudEvents:subject", "4", `{"specversion":"1.0","id":"7","source":"/shop","type":"t","data_base64":"AP8=","time":"2026-01-02T03:04:05Z"}`)
	f.Add("application/cloudevents-batch+json", "cloudEvents_time", "12345", `[]`)
	bus := newBus(f)
	must(f, patterns.NewWorkQueue[order](bus, "q").Declare(bounded(f)))
	f.Fuzz(func(t *testing.T, contentType, header, value, payload string) {
		d := patterns.Delivery{ContentType: contentType, Headers: ce("cloudEvents:", "x", "y"), Payload: []byte(payload)}
		d.Headers[header] = value
		a, err := cloudevents.FromDelivery(d)
		if err != nil {
			return
		}
		sent := cloudevents.Event[[]byte]{a, []byte(payload)}
		for _, option := range []patterns.EnvelopeOption{cloudevents.Binary(""), cloudevents.Structured("")} {
			q := patterns.NewWorkQueue[cloudevents.Event[[]byte]](bus, "q", option, patterns.WithCodec(patterns.Bytes{}))
			if err := q.Send(t.Context(), sent); err != nil {
				if errors.Is(err, adapters.ErrInvalid) || errors.Is(err, adapters.ErrTooLarge) {
					continue // there are limits for headers, and rules for who sends
				}
				t.Fatal(err)
			}
			m, err := q.TryGet(t.Context())
			must(t, err)
			must(t, m.Ack(t.Context()))
			got := m.Value
			if !got.Time.Equal(sent.Time) && !sent.Time.IsZero() || string(got.Data) != payload {
				t.Errorf("sent %+v, got %+v", sent, got)
			}
			got.Time, got.DataContentType = sent.Time, sent.DataContentType
			if len(sent.Extensions) == 0 {
				got.Extensions, sent.Extensions = nil, nil
			}
			if !reflect.DeepEqual(got.Attributes, sent.Attributes) {
				t.Errorf("sent %+v, got %+v", sent, got)
			}
		}
	})
}
