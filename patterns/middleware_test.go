package patterns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestMiddlewareOrder(t *testing.T) {
	var order []string
	trace := func(name string) message.HandlerMiddleware {
		return func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				order = append(order, name)
				out, err := next(m)
				order = append(order, "/"+name)
				return out, err
			}
		}
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		_, err := q.Work(t.Context(), func(context.Context, int) error { order = append(order, "handler"); return nil },
			patterns.WithMiddleware(trace("sub1"), trace("sub2")))
		must(t, err)
		must(t, q.Send(t.Context(), 1))
		synctest.Wait()
		if got := strings.Join(order, " "); got != "bus1 bus2 sub1 sub2 handler /sub2 /sub1 /bus2 /bus1" {
			t.Error(got)
		}
	}, patterns.WithMiddleware(trace("bus1")), patterns.WithMiddleware(trace("bus2")))
}

// What a middleware does to its message does not travel with a retry.
func TestRetryAndDeadLetterCarryTheOriginal(t *testing.T) {
	for _, inProcess := range []bool{false, true} {
		t.Run(fmt.Sprint("in process ", inProcess), func(t *testing.T) {
			decrypt := func(next message.HandlerFunc) message.HandlerFunc {
				return func(m *message.Message) ([]*message.Message, error) {
					m.Payload = bytes.TrimPrefix(m.Payload, []byte("secret:"))
					m.Metadata.Set("decrypted", m.Metadata.Get("decrypted")+"yes")
					return next(m)
				}
			}
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				tries := 0
				_, err := q.Work(t.Context(), func(ctx context.Context, n int) error {
					tries++
					if d, _ := patterns.DeliveryFrom(ctx); n != 7 || d.Headers["decrypted"] != "yes" || d.Attempt != tries {
						t.Errorf("try %d: %d with %+v", tries, n, d)
					}
					return errKitchen
				}, patterns.WithMiddleware(decrypt), patterns.Retry(patterns.RetryPolicy{Attempts: 3, InProcess: inProcess}))
				must(t, err)
				publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{}, "secret:7")
				time.Sleep(time.Hour)
				synctest.Wait()
				dead := patterns.NewWorkQueue[[]byte](patterns.New(bus.Driver(), patterns.WithCodec(patterns.Bytes{})), "q.dead")
				got := take(t, dead)
				if string(got.Value) != "secret:7" || got.Headers["decrypted"] != "" || tries != 3 {
					t.Errorf("after %d tries the dead letter is %q, %v", tries, got.Value, got.Headers)
				}
			})
		})
	}
}

func TestWatermillsOwnMiddleware(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		calls := map[string]int{}
		work := func(name string, h patterns.Handler[int], mw ...message.HandlerMiddleware) {
			q := patterns.NewWorkQueue[int](bus, name)
			_, err := q.Work(t.Context(), func(ctx context.Context, n int) error { calls[name]++; return h(ctx, n) },
				patterns.WithMiddleware(mw...), patterns.NoRetry())
			must(t, err)
			must(t, q.Send(t.Context(), 1))
			synctest.Wait()
		}
		dead := func(name string) bool {
			_, err := patterns.NewWorkQueue[int](bus, name).Dead().TryGet(t.Context())
			return err == nil
		}
		fail := func(context.Context, int) error { return errKitchen }
		work("retry", fail, middleware.Retry{MaxRetries: 2}.Middleware)
		work("recover", func(context.Context, int) error { panic(1) }, middleware.Recoverer)
		work("ignore", fail, middleware.NewIgnoreErrors([]error{errKitchen}).Middleware)
		work("instant", fail, middleware.InstantAck)
		work("duplicate", func(context.Context, int) error { return nil }, middleware.Duplicator)
		work("timeout", func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, middleware.Timeout(time.Second))
		time.Sleep(time.Minute)
		synctest.Wait()
		if fmt.Sprint(calls) != "map[duplicate:2 ignore:1 instant:1 recover:1 retry:3 timeout:1]" {
			t.Error(calls)
		}
		for name, want := range map[string]bool{"retry": true, "recover": true, "ignore": false, "instant": false, "duplicate": false, "timeout": true} {
			if got := dead(name); got != want {
				t.Errorf("%s: in the dead letters: %v", name, got)
			}
		}
	})
}

func TestProducedMessagesHaveNowhereToGo(t *testing.T) {
	produce := func(message.HandlerFunc) message.HandlerFunc {
		return func(*message.Message) ([]*message.Message, error) { return []*message.Message{{}}, nil }
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		_, err := q.Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithMiddleware(produce))
		must(t, err)
		must(t, q.Send(t.Context(), 1))
		synctest.Wait()
		take(t, q.Dead())
	})
}

func TestMiddlewareSeesAnswers(t *testing.T) {
	stamp := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			out, err := next(m)
			for _, answer := range out {
				answer.Payload = append(answer.Payload, '0')
			}
			return out, err
		}
	}
	bus, _ := newBus(t)
	rpc := patterns.NewRPC[int, int](bus, "double")
	_, err := rpc.Serve(bounded(t), double, patterns.WithMiddleware(stamp))
	must(t, err)
	if n, err := rpc.Call(bounded(t), 21); err != nil || n != 420 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestLogTellsWithoutPayloads(t *testing.T) {
	var buf bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := q.Work(t.Context(), func(context.Context, order) error { return errKitchen }, patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		must(t, q.Send(t.Context(), order{Dish: "hush-hush"}, patterns.Header("token", "hush-hush")))
		publishRaw(t, bus, adapters.Endpoint{Name: "orders"}, adapters.Properties{}, `{"id":"hush-hush"}`)
		publishRaw(t, bus, adapters.Endpoint{Name: "orders"}, adapters.Properties{}, `{"id":5e99, "dish":"hush-hush"}`)
		time.Sleep(time.Minute)
		broker.Cut()
		synctest.Wait()
		must(t, sub.Stop(t.Context()))
	}, patterns.WithLogger(logger))
	text := buf.String()
	for _, want := range []string{"trying again", "given up", "the kitchen is on fire", "queue=orders", "attempt=2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %q:\n%s", want, text)
		}
	}
	for _, secret := range []string{"hush", "5e99"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows a payload (%s):\n%s", secret, text)
		}
	}
}

func TestDeliveryFromIsFalseOutsideHandlers(t *testing.T) {
	if d, ok := patterns.DeliveryFrom(t.Context()); ok {
		t.Errorf("%+v", d)
	}
}

func TestUnsupportedIsRefusedBeforeTheFirstMessage(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	for name, c := range map[string]struct {
		lacks adapters.Ability
		try   func(context.Context, *patterns.Bus) error
	}{
		"retry": {adapters.CanDelay, func(ctx context.Context, b *patterns.Bus) error {
			return second(patterns.NewWorkQueue[int](b, "q").Work(ctx, func(context.Context, int) error { return nil }))
		}},
		"delay": {adapters.CanDelay, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[int](b, "q").Send(ctx, 1, patterns.Delay(time.Second))
		}},
		"dead letter": {adapters.CanDeadLetter, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[int](b, "q").Send(ctx, 1)
		}},
		"priority": {adapters.CanPrioritize, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[int](b, "q", patterns.MaxPriority(3)).Declare(ctx)
		}},
		"limit": {adapters.CanLimit, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[int](b, "q", patterns.MaxLength(3)).Declare(ctx)
		}},
		"get": {adapters.CanGet, func(ctx context.Context, b *patterns.Bus) error {
			return second(patterns.NewWorkQueue[int](b, "q").TryGet(ctx))
		}},
		"fanout": {adapters.CanFanout, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewPubSub[int](b, "f").Publish(ctx, 1)
		}},
		"group": {adapters.CanGroup, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewPubSub[int](b, "f").Declare(ctx, patterns.Group("g"))
		}},
		"cancel": {adapters.CanCancel, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[order](b, "q").Cancel(ctx, "x")
		}},
		"unique": {adapters.CanUnique, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[order](b, "q").Send(ctx, order{}, patterns.MessageID("x"), patterns.UniqueFor(time.Hour))
		}},
		"schedule": {adapters.CanGet, func(ctx context.Context, b *patterns.Bus) error {
			return second(patterns.NewWorkQueue[order](b, "q").Schedule(ctx, "s", patterns.Every(time.Hour), func(time.Time) order { return order{} }))
		}},
		"unschedule": {adapters.CanDelete, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[order](b, "q").Unschedule(ctx, "s")
		}},
		"unbind": {adapters.CanUnbind, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewPubSub[int](b, "f").Unbind(ctx, "g")
		}},
		"direct": {adapters.CanRoute, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewRouted[int](b, "d").Publish(ctx, "k", 1)
		}},
		"topic": {adapters.CanTopic, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewTopic[int](b, "t").Declare(ctx, []string{"#"})
		}},
		"serve": {adapters.CanReply, func(ctx context.Context, b *patterns.Bus) error {
			return second(patterns.NewRPC[int, int](b, "r").Serve(ctx, double))
		}},
		"call": {adapters.CanReply, func(ctx context.Context, b *patterns.Bus) error {
			return second(patterns.NewRPC[int, int](b, "r").Call(ctx, 1))
		}},
		"passive": {adapters.CanPassive, func(ctx context.Context, b *patterns.Bus) error {
			return patterns.NewWorkQueue[int](b, "q", patterns.Passive()).Declare(ctx)
		}},
	} {
		bus := patterns.New(&lackingDriver{broker.Connect(), c.lacks})
		err := c.try(bounded(t), bus)
		unsupported, ok := errors.AsType[*adapters.UnsupportedError](err)
		if !ok || !errors.Is(err, adapters.ErrUnsupported) || unsupported.Missing != c.lacks || unsupported.Adapter != "lacking" {
			t.Errorf("%s: got %v", name, err)
		}
		must(t, bus.Close(bounded(t)))
	}
}

type lackingDriver struct {
	adapters.Driver
	lacks adapters.Ability
}

func (d *lackingDriver) Features() adapters.Features {
	return adapters.Features{Adapter: "lacking", Ability: adapters.AllV1 &^ d.lacks}
}

func TestOriginFrom(t *testing.T) {
	if _, ok := patterns.OriginFrom(t.Context()); ok {
		t.Error("there is one outside handlers")
	}
	var got []string
	note := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			o, _ := patterns.OriginFrom(m.Context())
			d, _ := patterns.DeliveryFrom(m.Context())
			if o != (patterns.Origin{Source: d.Source, Group: d.Group, Queue: d.Queue, Call: d.Call}) {
				t.Errorf("%+v of %+v", o, d)
			}
			got = append(got, fmt.Sprint(o.Source.Name, " ", o.Group, " ", o.Queue, " ", o.Call))
			return next(m)
		}
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		news := patterns.NewPubSub[int](bus, "news")
		must(t, second(news.Subscribe(t.Context(), func(context.Context, int) error { return nil }, patterns.Group("paper"))))
		must(t, news.Publish(t.Context(), 1))
		synctest.Wait()
		f := patterns.NewRPC[int, int](bus, "f")
		must(t, second(f.Serve(t.Context(), func(context.Context, int) (int, error) { return 0, nil })))
		must(t, second(f.Call(t.Context(), 1)))
		if want := []string{"news paper news:paper false", "f  f true"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	}, patterns.WithMiddleware(note))
}
