package interop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/cloudevents"
)

// sdkEvent is an event as CloudEvents' own SDK makes it, with attributes of every type.
func sdkEvent(t *testing.T) sdk.Event {
	t.Helper()
	e := sdk.New()
	e.SetID("7")
	e.SetSource("/shop")
	e.SetType("order.placed")
	e.SetSubject("table 4")
	e.SetDataSchema("https://example.com/order")
	e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	e.SetExtension("text", "ü")
	e.SetExtension("number", 42)
	e.SetExtension("flag", true)
	if err := e.SetData(sdk.ApplicationJSON, order{"pad thai"}); err != nil {
		t.Fatal(err)
	}
	return e
}

var ourEvent = cloudevents.Event[order]{
	Attributes: cloudevents.Attributes{
		ID: "7", Source: "/shop", Type: "order.placed", Subject: "table 4", DataSchema: "https://example.com/order",
		DataContentType: contentType, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Extensions: map[string]string{"text": "ü", "number": "42", "flag": "true"},
	},
	Data: order{"pad thai"},
}

// TestCloudEvents: what CloudEvents' own SDK sends we receive, and the other way round, in both
// modes, over AMQP 0-9-1.
func TestCloudEvents(t *testing.T) {
	url := amqptest.URL(t)
	conn, err := amqp091.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(connect(t, url, amqp.Quorum))
	types := patterns.WithTypes(patterns.NewTypes[any](patterns.Named[order]("order.placed")))

	for _, c := range []struct {
		name   string
		prefix string // of the SDK's headers; "" in structured mode
		option patterns.EnvelopeOption
	}{
		{"structured", "", cloudevents.Structured("/shop")},
		{"binary", cloudevents.PrefixAMQP, cloudevents.Binary("/shop")},
		{"binary for JMS", cloudevents.PrefixJMS, cloudevents.BinaryPrefix(cloudevents.PrefixJMS, "/shop")},
		{"binary for Knative", cloudevents.PrefixRabbitMQ, cloudevents.BinaryPrefix(cloudevents.PrefixRabbitMQ, "/shop")},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := unique(t)
			events := patterns.NewWorkQueue[cloudevents.Event[order]](bus, name, c.option)
			typed := patterns.NewWorkQueue[any](bus, name, c.option, types)
			if err := events.Declare(soon(t)); err != nil {
				t.Fatal(err)
			}

			p := &sdkPublishing{prefix: c.prefix}
			e := sdkEvent(t)
			ctx := binding.WithForceBinary(t.Context())
			if c.prefix == "" {
				ctx = binding.WithForceStructured(t.Context())
			}
			if _, err := binding.Write(ctx, binding.ToMessage(&e), p, p); err != nil {
				t.Fatal(err)
			}
			publishRaw(t, url, name, p.Publishing, p.Publishing)
			got, err := events.Get(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.Value.Time = got.Value.Time.UTC(); !reflect.DeepEqual(got.Value, ourEvent) {
				t.Errorf("from the SDK came %+v,\nwant %+v", got.Value, ourEvent)
			}
			if err := got.Ack(soon(t)); err != nil {
				t.Fatal(err)
			}
			byType, err := typed.Get(soon(t)) // though there is no type property
			if err != nil {
				t.Fatal(err)
			}
			if byType.Value != any(order{"pad thai"}) || byType.Type != "" {
				t.Errorf("by its type came %+v", byType)
			}
			if err := byType.Ack(soon(t)); err != nil {
				t.Fatal(err)
			}

			if err := events.Send(soon(t), ourEvent); err != nil {
				t.Fatal(err)
			}
			d := sdkGet(t, channel, name)
			back, err := binding.ToEvent(t.Context(), sdkDelivery{d, c.prefix})
			if err != nil {
				t.Fatal(err)
			}
			if err := back.Validate(); err != nil {
				t.Error(err)
			}
			want := sdkEvent(t)
			want.SetExtension("number", "42") // Motif's headers are strings
			want.SetExtension("flag", "true")
			if !reflect.DeepEqual(back.Context, want.Context) || !bytes.Equal(back.Data(), want.Data()) {
				t.Errorf("the SDK got %v,\nwant %v", back, want)
			}
			if d.Type != "order.placed" || d.MessageId != "7" {
				t.Errorf("type %q, id %q", d.Type, d.MessageId)
			}
		})
	}
}

func sdkGet(t *testing.T, channel *amqp091.Channel, queue string) amqp091.Delivery {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		d, ok, err := channel.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return d
		}
	}
	t.Fatal("nothing came")
	return amqp091.Delivery{}
}

// sdkPublishing is what the SDK writes an event into: it has no binding for AMQP 0-9-1.
type sdkPublishing struct {
	amqp091.Publishing
	prefix string
}

func (p *sdkPublishing) SetStructuredEvent(_ context.Context, f format.Format, event io.Reader) (err error) {
	p.ContentType = f.MediaType()
	p.Body, err = io.ReadAll(event)
	return err
}

func (p *sdkPublishing) Start(context.Context) error { p.Headers = amqp091.Table{}; return nil }
func (p *sdkPublishing) End(context.Context) error   { return nil }

func (p *sdkPublishing) SetData(data io.Reader) (err error) {
	p.Body, err = io.ReadAll(data)
	return err
}

func (p *sdkPublishing) SetAttribute(a spec.Attribute, value any) error {
	if a.Kind() == spec.DataContentType {
		p.ContentType, _ = value.(string)
		return nil
	}
	return p.SetExtension(a.Name(), value)
}

// SetExtension sets attributes in AMQP's own types, where there are such.
func (p *sdkPublishing) SetExtension(name string, value any) error {
	switch v := value.(type) {
	case string, int32, bool:
	case types.Timestamp:
		value = v.Time
	default:
		text, err := types.Format(value)
		if err != nil {
			return err
		}
		value = text
	}
	p.Headers[p.prefix+name] = value
	return nil
}

// sdkDelivery is what the SDK reads an event from.
type sdkDelivery struct {
	amqp091.Delivery
	prefix string
}

func (d sdkDelivery) ReadEncoding() binding.Encoding {
	if format.IsFormat(d.ContentType) {
		return binding.EncodingStructured
	}
	return binding.EncodingBinary
}

func (d sdkDelivery) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if d.ReadEncoding() != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, format.Lookup(d.ContentType), bytes.NewReader(d.Body))
}

func (d sdkDelivery) ReadBinary(ctx context.Context, w binding.BinaryWriter) error {
	if d.ReadEncoding() != binding.EncodingBinary {
		return binding.ErrNotBinary
	}
	version := spec.WithPrefix(d.prefix).Version("1.0")
	errs := []error{w.Start(ctx), w.SetAttribute(version.AttributeFromKind(spec.DataContentType), d.ContentType)}
	for key, value := range d.Headers {
		name, ok := strings.CutPrefix(key, d.prefix)
		if !ok {
			continue
		}
		if a := version.Attribute(key); a != nil {
			errs = append(errs, w.SetAttribute(a, value))
		} else {
			errs = append(errs, w.SetExtension(name, value))
		}
	}
	return errors.Join(append(errs, w.SetData(bytes.NewReader(d.Body)), w.End(ctx))...)
}

func (d sdkDelivery) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	a := spec.WithPrefix(d.prefix).Version("1.0").AttributeFromKind(kind)
	if kind == spec.DataContentType {
		return a, d.ContentType
	}
	return a, d.Headers[a.PrefixedName()]
}

func (d sdkDelivery) GetExtension(name string) any { return d.Headers[d.prefix+name] }

func (sdkDelivery) Finish(error) error { return nil }
