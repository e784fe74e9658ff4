package otel_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A message that fails three times, dies, is redriven a day later and succeeds makes one trace, in
// which all tries are children of the publish.
func TestOneTraceThroughRetriesAndRedrive(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx, end := s.begin(t.Context(), "POST /orders")
		orders := patterns.NewWorkQueue[string](bus, "orders")
		must(t, orders.Send(ctx, "pad thai"))
		end()
		var broken atomic.Bool
		broken.Store(true)
		_, err := orders.Work(t.Context(), func(ctx context.Context, _ string) error {
			_, end := s.begin(ctx, "cook")
			defer end()
			if broken.Load() {
				return errKitchen
			}
			return nil
		}, patterns.Retry(patterns.RetryPolicy{Attempts: 3}))
		must(t, err)
		time.Sleep(24 * time.Hour)
		broken.Store(false)
		ctx, end = s.begin(t.Context(), "redrive all")
		sent, err := orders.Dead().Redrive(ctx)
		end()
		if must(t, err); sent != 1 {
			t.Errorf("%d redriven", sent)
		}
		synctest.Wait()
	})
	s.want(t,
		"POST /orders: internal",
		"  send orders: producer",
		"    process orders: consumer attempt=1 type=_OTHER error ->send orders#1",
		"      cook: internal",
		"      retry orders: client attempt=2 ->send orders#1",
		"      settle orders: client result=retried",
		"    process orders: consumer attempt=2 type=_OTHER error ->send orders#1 ->retry orders#1",
		"      cook: internal",
		"      retry orders: client attempt=3 ->send orders#1",
		"      settle orders: client result=retried",
		"    process orders: consumer attempt=3 type=_OTHER error ->send orders#1 ->retry orders#2",
		"      cook: internal",
		"      dead-letter orders.dead: client ->send orders#1",
		"      settle orders: client result=dead-lettered",
		"    process orders: consumer attempt=1 ->send orders#1 ->redrive orders#1",
		"      cook: internal",
		"      settle orders: client result=acknowledged",
		"redrive all: internal",
		"  redrive orders: client ->send orders#1",
	)
}

// Several messages at once have a span each that creates them, and one for the publish.
func TestBatch(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx, end := s.begin(t.Context(), "import")
		events := patterns.NewTopic[int](bus, "events")
		_, err := events.Subscribe(t.Context(), []string{"order.#"}, func(context.Context, int) error { return nil }, patterns.Group("kitchen"))
		must(t, err)
		must(t, events.PublishBatch(ctx, "order.new", []int{1, 2}))
		end()
		synctest.Wait()
	})
	s.want(t,
		"import: internal",
		"  create events: producer routing_key=order.new",
		"    process events: consumer name=kitchen attempt=1 routing_key=order.new ->create events#1",
		"      settle events: client name=kitchen result=acknowledged",
		"  create events: producer routing_key=order.new",
		"    process events: consumer name=kitchen attempt=1 routing_key=order.new ->create events#2",
		"      settle events: client name=kitchen result=acknowledged",
		"  publish events: client routing_key=order.new message_count=2 ->create events#1 ->create events#2",
	)
}

// A call is a span at each side; what went wrong shows on both.
func TestCalls(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		price := patterns.NewRPC[string, int](bus, "price")
		_, err := price.Serve(t.Context(), func(ctx context.Context, dish string) (int, error) {
			switch dish {
			case "burnt":
				return 0, errKitchen
			case "slow":
				<-ctx.Done()
				time.Sleep(time.Second) // or the caller may hear of it before its own time is up
				return 0, context.DeadlineExceeded
			case "deaf": // to a caller that gave up
				time.Sleep(time.Minute)
			}
			return 7, nil
		})
		must(t, err)
		for _, c := range []struct {
			dish    string
			timeout time.Duration
		}{{"soup", 0}, {"burnt", 0}, {"slow", 2 * time.Second}, {"deaf", -time.Second}} {
			ctx, end := s.begin(t.Context(), c.dish)
			ctx, cancel := context.WithCancel(ctx)
			switch {
			case c.timeout > 0:
				ctx, cancel = context.WithTimeout(ctx, c.timeout)
			case c.timeout < 0:
				time.AfterFunc(-c.timeout, cancel)
			}
			_, _ = price.Call(ctx, c.dish)
			cancel()
			end()
			time.Sleep(2 * time.Minute)
		}
		_, err = patterns.NewRPC[int, int](bus, "nobody").Call(t.Context(), 1)
		if err == nil {
			t.Error("somebody answered")
		}
	})
	s.want(t,
		"soup: internal",
		"  price: client",
		"    price: server",
		"burnt: internal",
		"  price: client status_code=internal type=remote error",
		"    price: server type=_OTHER error",
		"slow: internal",
		"  price: client type=deadline error",
		"    price: server type=deadline error",
		"deaf: internal",
		"  price: client type=canceled error",
		"    price: server",
		"nobody: client type=no_server error",
	)
	for _, span := range s.recorder.Ended() {
		if span.Name() == "price" && len(span.Events()) > 0 && span.Events()[0].Name == "context ended" {
			return
		}
	}
	t.Error("no span says that a caller gave up on a handler that succeeded")
}

// What a message carries from elsewhere is what its handler's span belongs to, and stays.
func TestForeignContext(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		name    string
		headers map[string]string
		state   string
		root    bool
	}{
		{name: "Trace Context", headers: map[string]string{"traceparent": parent, "tracestate": "a=1"}, state: "a=1"},
		{name: "a CloudEvent", headers: map[string]string{"cloudEvents:traceparent": parent, "cloudEvents:tracestate": "b=2"}, state: "b=2"},
		{name: "a CloudEvent by way of JMS", headers: map[string]string{"cloudEvents_traceparent": parent}},
		{name: "a CloudEvent from HTTP", headers: map[string]string{"ce-traceparent": parent, "ce-tracestate": "c=3"}, state: "c=3"},
		{name: "a CloudEvent in a traced message", headers: map[string]string{
			"traceparent": parent, "ce-traceparent": "00-00000000000000000000000000000001-0000000000000001-01", "ce-tracestate": "d=4",
		}},
		{name: "nothing", root: true},
		{name: "nonsense", headers: map[string]string{"traceparent": "00-4bf92f"}, root: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpans()
			s.in(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				opts := []patterns.PublishOption{}
				for key, value := range c.headers {
					opts = append(opts, patterns.Header(key, value))
				}
				foreign := patterns.New(broker.Connect())
				must(t, patterns.NewWorkQueue[int](foreign, "q").Send(t.Context(), 1, opts...))
				must(t, foreign.Close(t.Context()))
				ctx, end := s.begin(t.Context(), "starting up")
				tried := false
				sub, err := patterns.NewWorkQueue[int](bus, "q").Work(ctx, func(ctx context.Context, _ int) error {
					d, _ := patterns.DeliveryFrom(ctx)
					for key, value := range c.headers {
						if d.Headers[key] != value && !c.root {
							t.Errorf("%s became %q", key, d.Headers[key])
						}
					}
					if again := tried; again {
						return nil
					}
					tried = true
					return errKitchen
				})
				must(t, err)
				end()
				time.Sleep(time.Minute)
				must(t, sub.Stop(t.Context()))
			})
			tries := 0
			for _, span := range s.recorder.Ended() {
				if span.Name() != "process q" {
					continue
				}
				tries++
				context := span.SpanContext()
				switch {
				case !c.root && (context.TraceID().String() != parent[3:35] || span.Parent().SpanID().String() != parent[36:52]):
					t.Errorf("its parent is %s in %s", span.Parent().SpanID(), context.TraceID())
				case context.TraceState().String() != c.state:
					t.Errorf("its state is %q", context.TraceState())
				case c.root && tries == 1 && span.Parent().IsValid():
					t.Error("it has a parent")
				}
			}
			if tries != 2 {
				t.Errorf("%d tries", tries)
			}
		})
	}
}

// What a span says is named as the conventions have it.
func TestAttributes(t *testing.T) {
	s := newSpans()
	s.in(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		must(t, patterns.NewTopic[int](bus, "events").Publish(t.Context(), "order.new", 1, patterns.MessageID("m1")))
	})
	got := s.attributes(t, "publish events")
	for key, want := range map[string]string{
		"messaging.system": "memory", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "events:order.new", "messaging.destination.template": "events",
		"messaging.rabbitmq.destination.routing_key": "order.new", "messaging.message.id": "m1", "messaging.message.body.size": "1",
	} {
		if v, _ := got.Value(attribute.Key(key)); v.String() != want {
			t.Errorf("%s is %q, want %q", key, v.String(), want)
		}
	}
}
