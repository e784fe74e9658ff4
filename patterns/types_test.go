package patterns_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type (
	placed    struct{ Dish, Currency string }
	placedV1  struct{ Meal string }
	cancelled struct{ Why string }
	event     interface{ isEvent() }
)

func (placed) isEvent()    {}
func (cancelled) isEvent() {}

func upgradePlaced(v placedV1) (placed, error) {
	if v.Meal == "" {
		return placed{}, errors.New("no meal")
	}
	return placed{Dish: v.Meal, Currency: "THB"}, nil
}

func newEvents[T any](more ...patterns.NamedType) *patterns.Types[T] {
	return patterns.NewTypes[T](append([]patterns.NamedType{
		patterns.Named[placed]("order.placed"), patterns.Named[cancelled]("order.cancelled"),
	}, more...)...)
}

// TestTypes: each message is handled by the function for its type, whatever the pattern.
func TestTypes(t *testing.T) {
	events := newEvents[any]()
	type start func(context.Context, patterns.Handler[any], patterns.SubscribeOption) (*patterns.Subscription, error)
	for name, make := range map[string]func(*patterns.Bus) (start, func(context.Context, any) error){
		"PubSub": func(bus *patterns.Bus) (start, func(context.Context, any) error) {
			p := patterns.NewPubSub[any](bus, "x", patterns.WithTypes(events))
			return func(ctx context.Context, h patterns.Handler[any], o patterns.SubscribeOption) (*patterns.Subscription, error) {
				return p.Subscribe(ctx, h, o)
			}, func(ctx context.Context, v any) error { return p.Publish(ctx, v) }
		},
		"Routed": func(bus *patterns.Bus) (start, func(context.Context, any) error) {
			p := patterns.NewRouted[any](bus, "x", patterns.WithTypes(events))
			return func(ctx context.Context, h patterns.Handler[any], o patterns.SubscribeOption) (*patterns.Subscription, error) {
				return p.Subscribe(ctx, []string{"k"}, h, o)
			}, func(ctx context.Context, v any) error { return p.Publish(ctx, "k", v) }
		},
		"Topic": func(bus *patterns.Bus) (start, func(context.Context, any) error) {
			p := patterns.NewTopic[any](bus, "x", patterns.WithTypes(events))
			return func(ctx context.Context, h patterns.Handler[any], o patterns.SubscribeOption) (*patterns.Subscription, error) {
				return p.Subscribe(ctx, []string{"#"}, h, o)
			}, func(ctx context.Context, v any) error { return p.Publish(ctx, "k", v) }
		},
		"WorkQueue": func(bus *patterns.Bus) (start, func(context.Context, any) error) {
			q := patterns.NewWorkQueue[any](bus, "x", patterns.WithTypes(events))
			return func(ctx context.Context, h patterns.Handler[any], _ patterns.SubscribeOption) (*patterns.Subscription, error) {
					return q.Work(ctx, h)
				}, func(ctx context.Context, v any) error {
					r, err := q.SendAsync(ctx, v)
					if err != nil {
						return err
					}
					return r.Wait(ctx)
				}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				var got []string
				handle, err := events.Handler(
					patterns.On(func(ctx context.Context, v placed) error {
						d, _ := patterns.DeliveryFrom(ctx)
						got = append(got, d.Type+" "+v.Dish)
						return nil
					}),
					patterns.On(func(ctx context.Context, v cancelled) error {
						d, _ := patterns.DeliveryFrom(ctx)
						got = append(got, d.Type+" "+v.Why)
						return nil
					}),
				)
				must(t, err)
				subscribe, send := make(bus)
				_, err = subscribe(t.Context(), handle, patterns.Group("g"))
				must(t, err)
				must(t, send(t.Context(), placed{Dish: "larb"}))
				must(t, send(t.Context(), cancelled{"late"}))
				wantErr(t, "what is not among the types", send(t.Context(), order{}), adapters.ErrInvalid)
				wantErr(t, "a pointer to what is", send(t.Context(), &placed{}), adapters.ErrInvalid)
				wantErr(t, "nil", send(t.Context(), nil), adapters.ErrInvalid)
				time.Sleep(time.Second)
				synctest.Wait()
				if want := []string{"order.placed larb", "order.cancelled late"}; !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
}

// TestTypesMistakes: they are found before a message is sent.
func TestTypesMistakes(t *testing.T) {
	bus, _ := newBus(t)
	ctx := bounded(t)
	handler := func(context.Context, any) error { return nil }
	for name, types := range map[string]*patterns.Types[any]{
		"none":                 patterns.NewTypes[any](),
		"a type twice":         newEvents[any](patterns.Named[placed]("again")),
		"a name twice":         newEvents[any](patterns.Named[order]("order.placed")),
		"an old name in use":   newEvents[any](patterns.Upgrade("order.placed", upgradePlaced)),
		"an upgrade to what":   patterns.NewTypes[any](patterns.Named[order]("o"), patterns.Upgrade("v1", upgradePlaced)),
		"an upgrade by nobody": newEvents[any](patterns.Upgrade[placedV1, placed]("v1", nil)),
		"no name":              patterns.NewTypes[any](patterns.Named[order]("")),
		"a long name":          patterns.NewTypes[any](patterns.Named[order](strings.Repeat("n", 256))),
		"an interface":         patterns.NewTypes[any](patterns.Named[event]("event")),
		"a Raw":                patterns.NewTypes[any](patterns.Named[patterns.Raw]("raw")),
		"a zero value":         patterns.NewTypes[any](patterns.NamedType{}),
		"nil":                  nil,
	} {
		q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(types))
		_, err := q.Work(ctx, handler)
		wantErr(t, name+": Work", err, adapters.ErrInvalid)
		wantErr(t, name+": Send", q.Send(ctx, placed{}), adapters.ErrInvalid)
		topic := patterns.NewTopic[any](bus, "x", patterns.WithTypes(types))
		_, err = topic.Subscribe(ctx, []string{"#"}, handler)
		wantErr(t, name+": Subscribe", err, adapters.ErrInvalid)
		wantErr(t, name+": Publish", topic.Publish(ctx, "k", placed{}), adapters.ErrInvalid)
		wantErr(t, name+": Unbind", topic.Unbind(ctx, "g", "k"), adapters.ErrInvalid)
		_, err = types.Handler()
		wantErr(t, name+": Handler", err, adapters.ErrInvalid)
	}
	onPlaced := patterns.On(func(context.Context, placed) error { return nil })
	onCancelled := patterns.On(func(context.Context, cancelled) error { return nil })
	for name, handlers := range map[string][]patterns.TypeHandler{
		"one is missing": {onPlaced},
		"one too many":   {onPlaced, onCancelled, patterns.On(func(context.Context, order) error { return nil })},
		"two for one":    {onPlaced, onCancelled, onPlaced},
		"of an old type": {onPlaced, onCancelled, patterns.On(func(context.Context, placedV1) error { return nil })},
		"nil":            {onPlaced, patterns.On[cancelled](nil)},
		"a zero value":   {onPlaced, onCancelled, {}},
	} {
		_, err := newEvents[any](patterns.Upgrade("order.placed.v1", upgradePlaced)).Handler(handlers...)
		wantErr(t, "handlers: "+name, err, adapters.ErrInvalid)
	}
	events := patterns.WithTypes(newEvents[any]())
	wantErr(t, "types that the payload cannot be", patterns.NewWorkQueue[order](bus, "q", events).Declare(ctx), adapters.ErrInvalid)
	wantErr(t, "an interface that they do not have", patterns.NewWorkQueue[interface{ No() }](bus, "q", events).Declare(ctx), adapters.ErrInvalid)
	wantErr(t, "and of their own", patterns.NewWorkQueue[event](bus, "q", patterns.WithTypes(newEvents[event](patterns.Named[order]("o")))).Declare(ctx), adapters.ErrInvalid)
	wantErr(t, "twice", patterns.NewWorkQueue[any](bus, "q", events, events).Declare(ctx), adapters.ErrInvalid)
	wantErr(t, "a type of one's own", patterns.NewWorkQueue[any](bus, "q", events).Send(ctx, placed{}, patterns.Type("mine")), adapters.ErrInvalid)
	unknown := patterns.OnUnknownType(func(context.Context, patterns.Delivery) error { return nil })
	_, err := patterns.NewWorkQueue[any](bus, "q").Work(ctx, handler, unknown)
	wantErr(t, "OnUnknownType without types", err, adapters.ErrInvalid)
	_, err = patterns.NewPubSub[any](bus, "x").Subscribe(ctx, handler, unknown)
	wantErr(t, "OnUnknownType without types", err, adapters.ErrInvalid)
	_, err = patterns.NewWorkQueue[any](bus, "q", events).Work(ctx, handler, unknown, unknown)
	wantErr(t, "OnUnknownType twice", err, adapters.ErrInvalid)
	_, err = patterns.NewWorkQueue[any](bus, "q", events).Work(ctx, handler, patterns.OnUnknownType(nil))
	wantErr(t, "OnUnknownType of nil", err, adapters.ErrInvalid)
	must(t, patterns.NewWorkQueue[event](bus, "q", patterns.WithTypes(newEvents[event]())).Declare(ctx))
	must(t, patterns.NewWorkQueue[placed](bus, "q", events).Declare(ctx))
}

// TestUnknownTypes: what nobody knows is a dead letter at once, with a reason that names the type,
// and can be looked at and sent back.
func TestUnknownTypes(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ctx := t.Context()
		events := newEvents[any](patterns.Upgrade("order.placed.v1", upgradePlaced), patterns.Upgrade("", upgradePlaced))
		q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(events))
		foreign := patterns.NewWorkQueue[any](bus, "q")
		var got []any
		work := func(handler patterns.Handler[any], opts ...patterns.WorkOption) (stop func()) {
			sub, err := q.Work(ctx, handler, opts...)
			must(t, err)
			return func() {
				time.Sleep(time.Minute)
				must(t, sub.Stop(ctx))
			}
		}
		var settled []patterns.Settlement
		stop := work(func(_ context.Context, v any) error { got = append(got, v); return nil },
			patterns.OnSettle(func(_ context.Context, s patterns.Settlement) { settled = append(settled, s) }))
		must(t, foreign.Send(ctx, placedV1{"larb"}, patterns.Type("order.placed.v1")))
		must(t, foreign.Send(ctx, placedV1{"laap"}))
		must(t, foreign.Send(ctx, placedV1{}, patterns.Type("order.placed.v1")))
		must(t, foreign.Send(ctx, 7, patterns.Type("order.shipped")))
		must(t, foreign.Send(ctx, 8, patterns.Type("order.placed")))
		stop()
		if want := []any{placed{"larb", "THB"}, placed{"laap", "THB"}}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
		unknown, ok := errors.AsType[*patterns.UnknownTypeError](settled[3].Err)
		if !ok || unknown.Type != "order.shipped" || settled[3].Result != patterns.ResultDeadLettered || !errors.Is(unknown, patterns.ErrCodec) {
			t.Errorf("an unknown type was settled as %v with %v", settled[3].Result, settled[3].Err)
		}
		var reasons []string
		for letter, err := range q.Dead().Waiting(ctx) {
			if !errors.Is(err, patterns.ErrCodec) || letter == nil {
				t.Fatalf("a dead letter came with %v", err)
			}
			if letter.Headers[patterns.HeaderAttempts] != "1" {
				t.Errorf("it took %s attempts", letter.Headers[patterns.HeaderAttempts])
			}
			reasons = append(reasons, letter.Type+": "+letter.Headers[patterns.HeaderReason])
		}
		for i, part := range []string{`order.placed.v1: motif: codec: upgrading type "order.placed.v1": no meal`, `order.shipped: motif: type "order.shipped" is not known, only "", "order.cancelled", "order.placed", "order.placed.v1" are`, "order.placed: motif: codec: decoding"} {
			if i >= len(reasons) || !strings.HasPrefix(reasons[i], part) {
				t.Errorf("dead letters %q, want one that begins with %q", reasons, part)
			}
		}

		n, err := q.Dead().Redrive(ctx)
		if must(t, err); n != 3 {
			t.Errorf("%d sent back", n)
		}
		var others []string
		stop = work(func(context.Context, any) error { return nil }, patterns.OnUnknownType(func(ctx context.Context, d patterns.Delivery) error {
			others = append(others, d.Type+" "+string(d.Payload))
			return nil
		}))
		stop()
		if !slices.Equal(others, []string{"order.shipped 7"}) {
			t.Errorf("the handler of unknown types got %q", others)
		}
	})
}

// TestTypesOfSingleMessages: Get decodes by type; what is sent as it was received, but upgraded, is
// of its new type; a batch keeps its order.
func TestTypesOfSingleMessages(t *testing.T) {
	bus, _ := newBus(t, patterns.Compress(patterns.Gzip))
	ctx := bounded(t)
	types := patterns.WithTypes(newEvents[event](patterns.Upgrade("order.placed.v1", upgradePlaced)))
	q := patterns.NewWorkQueue[event](bus, "q", types)
	must(t, patterns.NewWorkQueue[any](bus, "q").Send(ctx, placedV1{"larb"}, patterns.Type("order.placed.v1"), patterns.Header("name", "value")))
	m, err := q.Get(ctx)
	if must(t, err); m.Value != event(placed{"larb", "THB"}) || m.Type != "order.placed.v1" {
		t.Errorf("got %+v", m)
	}
	must(t, q.Send(ctx, m.Value, patterns.AsReceived(m.Delivery)))
	must(t, m.Ack(ctx))
	again, err := q.TryGet(ctx)
	if must(t, err); again.Value != m.Value || again.Type != "order.placed" || again.ID != m.ID || again.Headers["name"] != "value" {
		t.Errorf("got %+v", again)
	}
	must(t, again.Ack(ctx))

	wantErr(t, "WaitForRoom with a batch", q.SendBatch(ctx, []event{placed{}, cancelled{}}, patterns.WaitForRoom()), adapters.ErrInvalid)
	wantErr(t, "one id for a batch", q.SendBatch(ctx, []event{placed{}, cancelled{}}, patterns.MessageID("1")), adapters.ErrInvalid)
	wantErr(t, "a batch with nil", q.SendBatch(ctx, []event{placed{}, nil}), adapters.ErrInvalid)
	batch := []event{placed{Dish: "1"}, placed{Dish: "2"}, cancelled{"3"}, placed{Dish: "4"}}
	must(t, q.SendBatch(ctx, batch))
	for _, want := range batch {
		m, err := q.TryGet(ctx)
		must(t, err)
		must(t, m.Ack(ctx))
		if m.Value != want {
			t.Errorf("got %v, want %v", m.Value, want)
		}
	}
	full := patterns.NewWorkQueue[event](bus, "full", types, patterns.MaxLength(1))
	failed, ok := errors.AsType[*adapters.PublishError](full.SendBatch(ctx, []event{placed{}, cancelled{}, placed{}, placed{}}))
	if !ok || len(failed.Failed) != 3 {
		t.Fatalf("a batch to a queue for one failed with %v", failed)
	}
	for i, f := range failed.Failed {
		if f.Index != i+1 || !errors.Is(f.Err, adapters.ErrNacked) {
			t.Errorf("failure %d is %+v", i, f)
		}
	}
}

// typedStore keeps the types of what it is given in one call.
type typedStore struct{ calls [][]string }

func (s *typedStore) Store(_ context.Context, msgs []patterns.Outgoing) error {
	var types []string
	for _, m := range msgs {
		types = append(types, m.Publication.Type)
	}
	s.calls = append(s.calls, types)
	return nil
}

// TestTypesInAStore: a batch of several types is stored as one, or not at all.
func TestTypesInAStore(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[any](bus, "q", patterns.WithTypes(newEvents[any]()))
	var store typedStore
	must(t, q.SendBatch(patterns.StoreIn(bounded(t), &store), []any{placed{}, cancelled{}, cancelled{}}))
	if len(store.calls) != 1 || !slices.Equal(store.calls[0], []string{"order.placed", "order.cancelled", "order.cancelled"}) {
		t.Errorf("stored %q", store.calls)
	}
}
